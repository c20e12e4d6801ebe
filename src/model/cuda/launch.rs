//! How work is given to the device: kernels by name, and products of row-major matrices.

use cudarc::{
    cublas::{Gemm as _, GemmConfig, sys::cublasOperation_t as Operation},
    driver::{CudaView, CudaViewMut},
};

use super::device::{Cuda, DeviceError};

/// Threads of a block where nothing asks for another number.
pub(super) const THREADS: u32 = 128;

/// Launches a kernel: `launch!(cuda.kernel, grid, block, shared bytes; arguments)`, grid and block as triples.
///
/// Expands to a `Result`. The arguments must be those of the kernel in the sources, in their order and of their types: `u32`,
/// `u64` and `f32` by reference, memory as views.
macro_rules! launch {
    ($cuda:ident.$kernel:ident, $grid:expr, $block:expr, $shared:expr; $($argument:expr),* $(,)?) => {{
        use cudarc::driver::PushKernelArg as _;
        let config =
            cudarc::driver::LaunchConfig { grid_dim: $grid, block_dim: $block, shared_mem_bytes: $shared };
        // SAFETY: every launch in this module names the arguments of its kernel, whose views hold what the kernel reads
        // and writes for this grid.
        let launched = unsafe {
            $cuda.stream.launch_builder(&$cuda.kernels.$kernel)$(.arg($argument))*.launch(config)
        };
        launched.map(|_| ()).map_err($crate::model::cuda::DeviceError::from)
    }};
}
pub(super) use launch;

/// A matrix in a product.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) numbers: &'a CudaView<'a, f32>,
    /// Numbers from one row to the next, as it is stored.
    pub(super) stride: usize,
    /// Whether it is stored with its rows as columns.
    pub(super) transposed: bool,
}

impl<'a> Operand<'a> {
    /// A matrix as it is stored.
    pub(super) fn rows(numbers: &'a CudaView<'a, f32>, stride: usize) -> Self {
        Self { numbers, stride, transposed: false }
    }

    /// The transpose of a matrix as it is stored.
    pub(super) fn columns(numbers: &'a CudaView<'a, f32>, stride: usize) -> Self {
        Self { numbers, stride, transposed: true }
    }

    fn operation(&self) -> Operation {
        if self.transposed { Operation::CUBLAS_OP_T } else { Operation::CUBLAS_OP_N }
    }
}

impl Cuda {
    /// Sets `c`, `[m, n]` with rows `stride` apart, to `a` `[m, k]` times `b` `[k, n]`, plus what it was if `add`.
    ///
    /// # Panics
    /// If the operands hold fewer numbers than the sizes say.
    pub(super) fn product(
        &self,
        [m, k, n]: [usize; 3],
        a: Operand<'_>,
        b: Operand<'_>,
        c: &mut CudaViewMut<'_, f32>,
        stride: usize,
        add: bool,
    ) -> Result<(), DeviceError> {
        if m * k * n == 0 {
            return Ok(());
        }
        let holds = |operand: &Operand<'_>, rows: usize, columns: usize| {
            let (rows, columns) = if operand.transposed { (columns, rows) } else { (rows, columns) };
            columns <= operand.stride && operand.numbers.len() >= (rows - 1) * operand.stride + columns
        };
        assert!(holds(&a, m, k) && holds(&b, k, n), "the operands of a product are as large as it says");
        assert!(n <= stride && c.len() >= (m - 1) * stride + n, "a product fits its place");
        // cuBLAS takes columns for rows, so this is the product of the transposes in the other order.
        let config = GemmConfig {
            transa: b.operation(),
            transb: a.operation(),
            m: n as i32,
            n: m as i32,
            k: k as i32,
            alpha: 1.0,
            lda: b.stride as i32,
            ldb: a.stride as i32,
            beta: if add { 1.0 } else { 0.0 },
            ldc: stride as i32,
        };
        // SAFETY: that the memory is large enough was asserted.
        Ok(unsafe { self.blas.gemm(config, b.numbers, a.numbers, c) }?)
    }

    /// Sets `sums` to the sums over the rows of a matrix.
    pub(super) fn sum_columns(
        &self,
        matrix: &CudaView<'_, f32>,
        rows: usize,
        columns: usize,
        sums: &mut CudaViewMut<'_, f32>,
    ) -> Result<(), DeviceError> {
        launch!(self.column_sums, ((columns as u32).div_ceil(32), 1, 1), (32, 32, 1), 0;
            matrix, &(rows as u32), &(columns as u32), sums)
    }
}
