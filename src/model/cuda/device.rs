//! One graphics processor: opened, asked what it is, its memory and its kernels.

use std::sync::Arc;

use cudarc::{
    cublas::{self, CudaBlas, sys::cublasMath_t as MathMode},
    driver::{
        self, CudaContext, CudaEvent, CudaFunction, CudaModule, CudaSlice, CudaStream, CudaView, CudaViewMut,
        DeviceRepr, DriverError, PinnedHostSlice, ValidAsZeroBits,
        sys::{CUdevice_attribute as Attribute, CUfunction_attribute as FunctionAttribute, CUresult},
    },
    nvrtc::{self, CompileOptions},
};

use crate::error::Error;

/// The kernels, in the order in which they use one another.
const SOURCES: [&str; 8] = [
    include_str!("kernels/common.cu"),
    include_str!("kernels/mask.cu"),
    include_str!("kernels/bag.cu"),
    include_str!("kernels/lstm.cu"),
    include_str!("kernels/pool.cu"),
    include_str!("kernels/loss.cu"),
    include_str!("kernels/update.cu"),
    include_str!("kernels/wide.cu"),
];

/// Shared memory that a block of the LSTM kernels asks for: half of 128 x 128 weights of four gates.
pub(super) const RESIDENT_BYTES: u32 = 128 << 10;

/// What a graphics processor could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A library that is needed is not on this machine; the name of it.
    #[error("{0} is not installed, or not where the dynamic linker looks")]
    NoLibrary(&'static str),
    /// Its memory is full.
    #[error("the device is out of memory")]
    OutOfMemory,
    /// Anything else that driver or libraries say.
    #[error("{0}")]
    Failed(String),
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        Self::Unavailable(format!("the graphics processor failed: {error}"))
    }
}

impl From<DriverError> for DeviceError {
    fn from(error: DriverError) -> Self {
        match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Self::OutOfMemory,
            code => Self::Failed(match error.error_string() {
                Ok(words) => format!("{} ({code:?})", words.to_string_lossy()),
                Err(_) => format!("{code:?}"),
            }),
        }
    }
}

impl From<cublas::result::CublasError> for DeviceError {
    fn from(error: cublas::result::CublasError) -> Self {
        Self::Failed(format!("cuBLAS: {error}"))
    }
}

macro_rules! kernels {
    ($($name:ident),* $(,)?) => {
        /// The kernels by their names in the sources.
        #[derive(Debug)]
        pub(super) struct Kernels { $(pub(super) $name: CudaFunction),* }

        impl Kernels {
            fn load(module: &Arc<CudaModule>) -> Result<Self, DriverError> {
                Ok(Self { $($name: module.load_function(stringify!($name))?),* })
            }
        }
    };
}

kernels! {
    draw_masks, bag_forward, bag_backward, lstm_forward, lstm_backward, cell_forward, cell_backward, pool_forward, pool_backward,
    add_bias, class_loss, column_sums, square_sums, step_outcome, adamw_dense, adamw_rows, descend_dense, descend_rows,
    wide_forward, wide_norms, wide_update, wide_bias,
}

/// A graphics processor with its kernels loaded.
#[derive(Debug)]
pub struct Cuda {
    index: usize,
    name: String,
    pub(super) stream: Arc<CudaStream>,
    pub(super) blas: CudaBlas,
    pub(super) kernels: Kernels,
    /// Whether a block may take [`RESIDENT_BYTES`] of shared memory.
    pub(super) resident: bool,
}

impl Cuda {
    /// Opens a device by its number and compiles the kernels for it.
    ///
    /// # Errors
    /// [`DeviceError::NoLibrary`] without the driver, cuBLAS or NVRTC; [`DeviceError::Failed`] if there is no such device, or
    /// driver and libraries do not fit one another.
    pub fn open(index: usize) -> Result<Self, DeviceError> {
        if let Some(library) = missing_library() {
            return Err(DeviceError::NoLibrary(library));
        }
        let context = CudaContext::new(index)?;
        let stream = context.new_stream()?;
        // SAFETY: all work on this device is given to this one stream, so that nothing need wait for another stream.
        unsafe { context.disable_event_tracking() };
        let (major, minor) = context.compute_capability()?;
        let module = context.load_module(compile(major, minor)?)?;
        let kernels = Kernels::load(&module)?;
        let most = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        // The kernels have a few KiB of their own.
        let resident = most >= RESIDENT_BYTES as i32 + (8 << 10);
        if resident {
            let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            for function in [&kernels.lstm_forward, &kernels.lstm_backward] {
                function.set_attribute(attribute, RESIDENT_BYTES as i32)?;
            }
        }
        let blas = CudaBlas::new(Arc::clone(&stream))?;
        Ok(Self { index, name: context.name()?, stream, blas, kernels, resident })
    }

    /// Its number, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What its maker calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of its memory that are free, and in all.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] if the device is lost.
    pub fn memory(&self) -> Result<(usize, usize), DeviceError> {
        Ok(self.stream.context().mem_get_info()?)
    }

    /// Whether products round their operands to TF32 (10 bits of mantissa), which tensor cores multiply several times as
    /// fast.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] if cuBLAS refuses.
    pub fn round_products(&self, tf32: bool) -> Result<(), DeviceError> {
        let mode = if tf32 { MathMode::CUBLAS_TF32_TENSOR_OP_MATH } else { MathMode::CUBLAS_DEFAULT_MATH };
        // SAFETY: the handle lives as long as `self`.
        Ok(unsafe { cublas::sys::cublasSetMathMode(*self.blas.handle(), mode) }.result()?)
    }

    /// Waits until it has done all that it was told.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] if something of it failed.
    pub fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(self.stream.synchronize()?)
    }
}

/// A library that is needed and not there.
fn missing_library() -> Option<&'static str> {
    // SAFETY: loads libraries by names of NVIDIA's, whose initialisation has no preconditions.
    unsafe {
        if !driver::sys::is_culib_present() {
            Some("the CUDA driver (libcuda.so.1)")
        } else if !nvrtc::sys::is_culib_present() {
            Some("NVRTC (libnvrtc.so.13 or .12)")
        } else if !cublas::sys::is_culib_present() {
            Some("cuBLAS (libcublas.so.13 or .12)")
        } else {
            None
        }
    }
}

/// The kernels for devices of a compute capability.
fn compile(major: i32, minor: i32) -> Result<nvrtc::Ptx, DeviceError> {
    let options = CompileOptions {
        options: vec![format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".into()],
        name: Some("taxond.cu".into()),
        ..CompileOptions::default()
    };
    nvrtc::compile_ptx_with_opts(SOURCES.concat(), options).map_err(|error| {
        DeviceError::Failed(format!("NVRTC could not compile the kernels for {major}.{minor}: {error}"))
    })
}

/// Waits until the device has come to an event, by asking: it is there within a fraction of a step.
pub(super) fn wait(event: &CudaEvent) -> Result<(), DeviceError> {
    while !event.try_is_complete()? {
        std::thread::yield_now();
    }
    Ok(())
}

/// Memory of the device that grows when more is asked for, and is used again.
#[derive(Debug)]
pub(super) struct Buffer<T>(Option<CudaSlice<T>>);

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: DeviceRepr + ValidAsZeroBits> Buffer<T> {
    /// Room for so many numbers, at least one; what they are is undefined.
    pub(super) fn reserve(&mut self, cuda: &Cuda, len: usize) -> Result<CudaViewMut<'_, T>, DeviceError> {
        let len = len.max(1);
        if self.0.as_ref().is_none_or(|held| held.len() < len) {
            // The old memory first, so that both need not fit.
            self.0 = None;
            self.0 = Some(cuda.stream.alloc_zeros(len + len / 4)?);
        }
        let held = self.0.as_mut().expect("there is memory, or an error was returned");
        Ok(held.slice_mut(..len))
    }

    /// The first numbers of what was reserved.
    ///
    /// # Panics
    /// If fewer were reserved.
    pub(super) fn view(&self, len: usize) -> CudaView<'_, T> {
        self.0.as_ref().expect("reserved before it is read").slice(..len)
    }

    /// As [`Buffer::view`], to be written.
    pub(super) fn view_mut(&mut self, len: usize) -> CudaViewMut<'_, T> {
        self.0.as_mut().expect("reserved before it is written").slice_mut(..len)
    }
}

/// Numbers on their way to the device, which fetches them when it comes to it. Two places by turns, so that the next numbers
/// need not wait for that.
#[derive(Debug)]
pub(super) struct Upload<T> {
    places: [Option<Place<T>>; 2],
    turn: usize,
    on_device: Buffer<T>,
}

/// Page-locked memory that the device fetches from.
#[derive(Debug)]
struct Place<T> {
    memory: PinnedHostSlice<T>,
    /// Recorded behind the copy. The memory has an event too, which is not, since tracking is off.
    fetched: CudaEvent,
}

impl<T> Default for Upload<T> {
    fn default() -> Self {
        Self { places: [None, None], turn: 0, on_device: Buffer::default() }
    }
}

impl<T: Copy + DeviceRepr + ValidAsZeroBits> Place<T> {
    fn new(cuda: &Cuda, len: usize) -> Result<Self, DeviceError> {
        let context = cuda.stream.context();
        // SAFETY: it is set to zeros, which are values of the type by the bound, before anything reads it.
        let memory = unsafe {
            let mut memory: PinnedHostSlice<T> = context.alloc_pinned(len)?;
            memory.as_mut_ptr()?.write_bytes(0, len);
            memory
        };
        Ok(Self { memory, fetched: context.new_event(None)? })
    }
}

impl<T: Copy + DeviceRepr + ValidAsZeroBits> Upload<T> {
    /// Sends numbers, which [`Upload::view`] then shows, and makes room for `room` in all.
    pub(super) fn send(&mut self, cuda: &Cuda, numbers: &[T], room: usize) -> Result<(), DeviceError> {
        self.on_device.reserve(cuda, room.max(numbers.len()))?;
        if numbers.is_empty() {
            return Ok(());
        }
        self.turn = 1 - self.turn;
        let place = &mut self.places[self.turn];
        if let Some(before) = place {
            wait(&before.fetched)?;
        }
        if place.as_ref().is_none_or(|place| place.memory.len() < numbers.len()) {
            *place = Some(Place::new(cuda, numbers.len() + numbers.len() / 4)?);
        }
        let place = place.as_mut().expect("there is memory, or an error was returned");
        place.memory.as_mut_slice()?[..numbers.len()].copy_from_slice(numbers);
        let mut to = self.on_device.reserve(cuda, room.max(place.memory.len()))?;
        cuda.stream.memcpy_htod(&place.memory, &mut to)?;
        Ok(place.fetched.record(&cuda.stream)?)
    }

    /// What was sent, or any part of the room.
    pub(super) fn view(&self, span: std::ops::Range<usize>) -> CudaView<'_, T> {
        self.on_device.view(span.end.max(1)).slice(span)
    }

    /// As [`Upload::view`], to be written.
    pub(super) fn view_mut(&mut self, len: usize) -> CudaViewMut<'_, T> {
        self.on_device.view_mut(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_compile_where_there_is_a_compiler() {
        let required = std::env::var_os("TAXOND_TEST_NVRTC").is_some();
        // SAFETY: as in `missing_library`.
        if required || unsafe { nvrtc::sys::is_culib_present() } {
            for (major, minor) in [(7, 5), (8, 0), (8, 9), (9, 0), (12, 0)] {
                compile(major, minor).unwrap();
            }
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let error = Cuda::open(4096).unwrap_err().to_string();
        assert!(error.contains("not installed") || error.contains("CUDA_ERROR_"), "{error}");
    }
}
