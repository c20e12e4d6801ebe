// Sums, norms and updates. What a step came to stays on the device, where the updates read it:
// outcome = loss in nats, norm of all gradients, factor of the clipping, 1 if both are finite.

// Sums over the rows of a matrix [N, M], in 32 partial sums a column. Blocks of 32 x 32, one for 32 columns.
extern "C" __global__ void column_sums(const float* __restrict__ matrix, u32 rows, u32 columns,
                                       float* __restrict__ sums) {
  __shared__ float parts[32][33];
  const u32 column = blockIdx.x * 32 + threadIdx.x;
  float sum = 0.0f;
  if (column < columns) {
    for (u32 row = threadIdx.y; row < rows; row += 32) sum += matrix[(u64)row * columns + column];
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && column < columns) {
    sum = 0.0f;
    for (int part = 0; part < 32; ++part) sum += parts[part][threadIdx.x];
    sums[column] = sum;
  }
}

// The sum of squares of two lists, one partial sum a block.
extern "C" __global__ void square_sums(const float* __restrict__ first, u64 first_count,
                                       const float* __restrict__ second, u64 second_count,
                                       double* __restrict__ sums) {
  double sum = 0.0;
  const u64 apart = (u64)gridDim.x * blockDim.x, begin = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  for (u64 at = begin; at < first_count; at += apart) sum += (double)first[at] * first[at];
  for (u64 at = begin; at < second_count; at += apart) sum += (double)second[at] * second[at];
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// One block.
extern "C" __global__ void step_outcome(const double* __restrict__ losses, u32 texts,
                                        const double* __restrict__ squares, u32 count, float clip,
                                        float* __restrict__ outcome) {
  double loss = 0.0, square = 0.0;
  for (u32 at = threadIdx.x; at < texts; at += blockDim.x) loss += losses[at];
  for (u32 at = threadIdx.x; at < count; at += blockDim.x) square += squares[at];
  loss = block_sum(loss) / texts;
  const double norm = sqrt(block_sum(square));
  if (threadIdx.x == 0) {
    outcome[0] = (float)loss;
    outcome[1] = (float)norm;
    outcome[2] = (float)fmin(1.0, clip / fmax(norm, 1e-12));
    outcome[3] = isfinite(loss) && isfinite(norm) ? 1.0f : 0.0f;
  }
}

// AdamW (Loshchilov and Hutter 2019) as kernels/adamw.rs on the processor.
__device__ __forceinline__ void adamw(float* x, float g, float* first, float* second, float beta1, float beta2,
                                      float epsilon, float rate, float root, float shrink) {
  const float m = *first = beta1 * *first + (1.0f - beta1) * g;
  const float v = *second = beta2 * *second + (1.0f - beta2) * g * g;
  *x = *x * shrink - rate * m / (root * sqrtf(v) + epsilon);
}

// The first `decaying` numbers shrink.
extern "C" __global__ void adamw_dense(float* __restrict__ values, const float* __restrict__ gradient,
                                       float* __restrict__ first, float* __restrict__ second, u64 count, u64 decaying,
                                       float beta1, float beta2, float epsilon, float rate, float root, float shrink,
                                       const float* __restrict__ outcome) {
  const u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count || outcome[3] == 0.0f) return;
  const float g = outcome[2] * gradient[at];
  adamw(values + at, g, first + at, second + at, beta1, beta2, epsilon, rate, root, at < decaying ? shrink : 1.0f);
}

// The rows of a table [V, width] that have a gradient. A block a row.
extern "C" __global__ void adamw_rows(float* __restrict__ table, u32 width, const u32* __restrict__ rows,
                                      const float* __restrict__ gradient, float* __restrict__ first,
                                      float* __restrict__ second, float beta1, float beta2, float epsilon, float rate,
                                      float root, const float* __restrict__ outcome) {
  if (outcome[3] == 0.0f) return;
  const u64 to = (u64)rows[blockIdx.x] * width, from = (u64)blockIdx.x * width;
  for (u32 e = threadIdx.x; e < width; e += blockDim.x) {
    const float g = outcome[2] * gradient[from + e];
    adamw(table + to + e, g, first + to + e, second + to + e, beta1, beta2, epsilon, rate, root, 1.0f);
  }
}

// Gradient descent: x = shrink x - rate g.
extern "C" __global__ void descend_dense(float* __restrict__ values, const float* __restrict__ gradient, u64 count,
                                         u64 decaying, float rate, float shrink, const float* __restrict__ outcome) {
  const u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count || outcome[3] == 0.0f) return;
  values[at] = (at < decaying ? shrink : 1.0f) * values[at] - rate * outcome[2] * gradient[at];
}

extern "C" __global__ void descend_rows(float* __restrict__ table, u32 width, const u32* __restrict__ rows,
                                        const float* __restrict__ gradient, float rate,
                                        const float* __restrict__ outcome) {
  if (outcome[3] == 0.0f) return;
  const u64 to = (u64)rows[blockIdx.x] * width, from = (u64)blockIdx.x * width;
  for (u32 e = threadIdx.x; e < width; e += blockDim.x) table[to + e] -= rate * outcome[2] * gradient[from + e];
}
