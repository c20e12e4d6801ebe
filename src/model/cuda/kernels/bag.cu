// The mean of some rows of an embedding, for each token, as kernels/bag.rs on the processor.
//
//   y[i]  = mask[i] / |bag i| * sum of W[r] over r in bag i                W [V, E]   y [N, E]
//   dW[r] = sum of mask[i] dy[i] / |bag i| over the bags i that hold r     dW [R, E], of the rows that the batch touches

// A block a token. `columns` [B, E] by rank; without it nothing is masked.
extern "C" __global__ void bag_forward(const float* __restrict__ table, u32 width, const u32* __restrict__ rows,
                                       const u32* __restrict__ offsets, const u32* __restrict__ ranks,
                                       const float* __restrict__ columns, u32 masked, float* __restrict__ y) {
  const u32 token = blockIdx.x;
  const u32 rank = masked ? ranks[token] : 0;
  const u32 begin = offsets[token], end = offsets[token + 1];
  const float share = 1.0f / (float)(end - begin);
  for (u32 e = threadIdx.x; e < width; e += blockDim.x) {
    float sum = 0.0f;
    if (rank != HIDDEN) {
      for (u32 at = begin; at < end; ++at) sum += table[(u64)rows[at] * width + e];
      sum *= masked ? share * columns[(u64)rank * width + e] : share;
    }
    y[(u64)token * width + e] = sum;
  }
}

// A block a touched row; `holders` are the tokens whose bags hold it, in order. Rows 1 to `frozen` have no gradient.
extern "C" __global__ void bag_backward(const float* __restrict__ dy, u32 width, const u32* __restrict__ offsets,
                                        const u32* __restrict__ ranks, const float* __restrict__ columns, u32 masked,
                                        const u32* __restrict__ touched, const u32* __restrict__ holder_offsets,
                                        const u32* __restrict__ holders, u32 frozen, float* __restrict__ dw) {
  const u32 row = blockIdx.x;
  const u32 id = touched[row];
  const bool learns = id == 0 || id > frozen;
  const u32 begin = holder_offsets[row], end = learns ? holder_offsets[row + 1] : begin;
  for (u32 e = threadIdx.x; e < width; e += blockDim.x) {
    float sum = 0.0f;
    for (u32 at = begin; at < end; ++at) {
      const u32 token = holders[at];
      const u32 rank = masked ? ranks[token] : 0;
      if (rank == HIDDEN) continue;
      const float share = 1.0f / (float)(offsets[token + 1] - offsets[token]);
      const float factor = masked ? share * columns[(u64)rank * width + e] : share;
      sum += factor * dy[(u64)token * width + e];
    }
    dw[(u64)row * width + e] = sum;
  }
}
