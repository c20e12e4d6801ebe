// The states of all tokens of a text as one vector, as kernels/pool.rs on the processor.
//
//   mean                  y = mean_t h[t]                                             [B, S]
//   mean|max|input        y = mean_t h[t] | max_t h[t] | mean_t x[t]                  [B, 2 S + E]
//   mean|projected|input  y = mean_t h[t] | tanh(max_t z[t] + b) | mean_t x[t]        [B, 2 S + E]
//
// z [N, S] is what is projected of h and x; it may be absent. A block a text, by rank; rows of y are in the order of the
// batch as given.

// `mask` [B, F] may be absent; y is without it, `features` with it.
extern "C" __global__ void pool_forward(const float* __restrict__ h, const float* __restrict__ x,
                                        const float* __restrict__ z, const float* __restrict__ bias, u32 states,
                                        u32 embedding, u32 mean_only, u32 projects, const u32* __restrict__ starts,
                                        const u32* __restrict__ lengths, const u32* __restrict__ order,
                                        const float* __restrict__ mask, u32 masked, float* __restrict__ y,
                                        float* __restrict__ features) {
  const u32 rank = blockIdx.x, length = lengths[rank];
  const float share = 1.0f / (float)length;
  const u32 columns = mean_only ? states : 2 * states + embedding;
  const u64 first = (u64)order[rank] * columns;
  for (u32 column = threadIdx.x; column < columns; column += blockDim.x) {
    float pooled;
    if (column < states || column >= 2 * states) {
      const bool input = column >= 2 * states;
      const u32 width = input ? embedding : states, at = input ? column - 2 * states : column;
      const float* from = input ? x : h;
      float sum = 0.0f;
      for (u32 t = 0; t < length; ++t) sum += from[(u64)(starts[t] + rank) * width + at];
      pooled = sum * share;
    } else {
      const float* from = projects ? z : h;
      pooled = -INFINITE;
      for (u32 t = 0; t < length; ++t) {
        const float here = from[(u64)(starts[t] + rank) * states + column - states];
        pooled = here > pooled ? here : pooled;
      }
      if (projects) pooled = tanhf(pooled + bias[column - states]);
    }
    y[first + column] = pooled;
    features[first + column] = masked ? pooled * mask[first + column] : pooled;
  }
}

// From the gradient of the features those of h, of z and of x, without what comes through z. That of a maximum goes to the
// first step that reached it.
extern "C" __global__ void pool_backward(const float* __restrict__ h, const float* __restrict__ z,
                                         const float* __restrict__ y, const float* __restrict__ dfeatures, u32 states,
                                         u32 embedding, u32 mean_only, u32 projects, const u32* __restrict__ starts,
                                         const u32* __restrict__ lengths, const u32* __restrict__ order,
                                         const float* __restrict__ mask, u32 masked, float* __restrict__ dh,
                                         float* __restrict__ dz, float* __restrict__ dx) {
  const u32 rank = blockIdx.x, length = lengths[rank];
  const float share = 1.0f / (float)length;
  const u32 columns = mean_only ? states : 2 * states + embedding;
  const u64 first = (u64)order[rank] * columns;
  for (u32 column = threadIdx.x; column < states; column += blockDim.x) {
    const float dmean = share * dfeatures[first + column] * (masked ? mask[first + column] : 1.0f);
    const u64 max_at = first + states + column;
    float left = 0.0f, max = 0.0f;
    if (!mean_only) {
      left = dfeatures[max_at] * (masked ? mask[max_at] : 1.0f);
      max = y[max_at];
    }
    if (projects) {
      left *= 1.0f - max * max;
      max = -INFINITE;
      for (u32 t = 0; t < length; ++t) {
        const float here = z[(u64)(starts[t] + rank) * states + column];
        max = here > max ? here : max;
      }
    }
    const float* from = projects ? z : h;
    for (u32 t = 0; t < length; ++t) {
      const u64 at = (u64)(starts[t] + rank) * states + column;
      const bool reached = !mean_only && from[at] == max;
      const float through = reached ? left : 0.0f;
      dh[at] = projects ? dmean : dmean + through;
      if (projects) dz[at] = through;
      left = reached ? 0.0f : left;
    }
  }
  for (u32 e = threadIdx.x; e < embedding; e += blockDim.x) {
    const u64 at = first + 2 * states + e;
    const float d = mean_only ? 0.0f : share * dfeatures[at] * (masked ? mask[at] : 1.0f);
    for (u32 t = 0; t < length; ++t) dx[(u64)(starts[t] + rank) * embedding + e] = d;
  }
}
