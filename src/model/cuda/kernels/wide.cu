// Softmax regression on weighted terms by stochastic gradients, as train/wide on the processor.
//
//   u[C] = x W + b                     x [U] the terms of a text that are seen, W [U, C]
//   h[row] += x[row]^2 |g|^2 / C       g [C] gradient of the loss by u
//   W[row] -= rate / sqrt(h[row]) x[row] g

// A block a text. `terms` are rows of W, `weights` their x.
extern "C" __global__ void wide_forward(const float* __restrict__ table, const float* __restrict__ bias, u32 leaves,
                                        const u32* __restrict__ terms, const float* __restrict__ weights,
                                        const u32* __restrict__ offsets, float* __restrict__ logits) {
  const u32 begin = offsets[blockIdx.x], end = offsets[blockIdx.x + 1];
  for (u32 j = threadIdx.x; j < leaves; j += blockDim.x) {
    float sum = bias[j];
#pragma unroll 4
    for (u32 at = begin; at < end; ++at) sum = fmaf(weights[at], table[(u64)terms[at] * leaves + j], sum);
    logits[(u64)blockIdx.x * leaves + j] = sum;
  }
}

// |g|^2 / C of each text. A block a text.
extern "C" __global__ void wide_norms(const float* __restrict__ gradients, u32 leaves, float* __restrict__ norms) {
  double sum = 0.0;
  for (u32 j = threadIdx.x; j < leaves; j += blockDim.x) {
    const double g = gradients[(u64)blockIdx.x * leaves + j];
    sum += g * g;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) norms[blockIdx.x] = (float)(sum / leaves);
}

// A block a row that some text has, `holders` the texts in order and `held` their x. Every thread follows h by itself.
extern "C" __global__ void wide_update(float* __restrict__ table, float* __restrict__ squares, u32 leaves,
                                       const u32* __restrict__ rows, const u32* __restrict__ holder_offsets,
                                       const u32* __restrict__ holders, const float* __restrict__ held,
                                       const float* __restrict__ gradients, const float* __restrict__ norms,
                                       float rate) {
  const u32 row = rows[blockIdx.x];
  const u32 begin = holder_offsets[blockIdx.x], end = holder_offsets[blockIdx.x + 1];
  float* weights = table + (u64)row * leaves;
  const float before = squares[row];
  float square = before;
  for (u32 j = threadIdx.x; j < leaves; j += blockDim.x) {
    float weight = weights[j];
    square = before;
    for (u32 at = begin; at < end; ++at) {
      const float x = held[at];
      square += x * x * norms[holders[at]];
      const float step = square > 0.0f ? rate * x / sqrtf(square) : 0.0f;
      weight -= step * gradients[(u64)holders[at] * leaves + j];
    }
    weights[j] = weight;
  }
  __syncthreads();
  if (threadIdx.x == 0) squares[row] = square;
}

// Moves the bias against the sum of the gradients, and adds the losses to `total`. One block.
extern "C" __global__ void wide_bias(float* __restrict__ bias, const float* __restrict__ gradients, u32 leaves, u32 texts,
                                     float rate, const double* __restrict__ losses, double* __restrict__ total) {
  for (u32 j = threadIdx.x; j < leaves; j += blockDim.x) {
    float moved = bias[j];
    for (u32 text = 0; text < texts; ++text) moved -= rate * gradients[(u64)text * leaves + j];
    bias[j] = moved;
  }
  double sum = 0.0;
  for (u32 text = threadIdx.x; text < texts; text += blockDim.x) sum += losses[text];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total += sum;
}
