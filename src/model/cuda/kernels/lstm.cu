// What is sequential in an LSTM, and the way back through it. The products with the tokens and the gradients of the
// weights are products over all steps, outside.
//
//   i, f, o = sigmoid(a)     g = tanh(a)          a [4H] = W_ih x + b + W_hh h'
//   c = f c' + i g           h = o tanh(c)        c', h' from the step read before
//
// Rows are packed: rank r at step t is row starts[t] + r, ranks by falling length. G = D 4H, S = D H.

// ---- Up to 128 units: one block takes one text in one direction through all steps, with all weights on the chip.
//
// Thread (q, u) of 4 x 128 owns a gate q of a unit u forwards, and a quarter q of the sum for unit u backwards: 128 weights,
// the first 64 of them in registers, the rest in shared memory. Nothing is exchanged between blocks, and a step costs two
// barriers. Units beyond H have weights of zero.

#define UNITS 128
#define THREADS 512
#define HELD 64
#define FOURS ((UNITS - HELD) / 4)

extern __shared__ float4 rest[];  // [FOURS][THREADS]: 128 KiB

// The sum of a thread's weights times 128 numbers that all threads of a warp read together.
__device__ __forceinline__ float weighted(const float (&held)[HELD], const float4* numbers) {
  float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
#pragma unroll
  for (int k = 0; k < HELD / 4; ++k) {
    const float4 x = numbers[k];
    a = fmaf(held[4 * k], x.x, a);
    b = fmaf(held[4 * k + 1], x.y, b);
    c = fmaf(held[4 * k + 2], x.z, c);
    d = fmaf(held[4 * k + 3], x.w, d);
  }
#pragma unroll
  for (int k = 0; k < FOURS; ++k) {
    const float4 x = numbers[HELD / 4 + k];
    const float4 w = rest[k * THREADS + threadIdx.x];
    a = fmaf(w.x, x.x, a);
    b = fmaf(w.y, x.y, b);
    c = fmaf(w.z, x.z, c);
    d = fmaf(w.w, x.w, d);
  }
  return (a + b) + (c + d);
}

// Loads weight `k` of this thread from `weights[k * apart]`, zeros from `count` on.
__device__ __forceinline__ void load(float (&held)[HELD], const float* weights, u32 apart, u32 count) {
#pragma unroll
  for (int k = 0; k < HELD; ++k) held[k] = k < count ? weights[(u64)k * apart] : 0.0f;
  for (int k = 0; k < FOURS; ++k) {
    float w[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const u32 at = HELD + 4 * k + j;
      w[j] = at < count ? weights[(u64)at * apart] : 0.0f;
    }
    rest[k * THREADS + threadIdx.x] = make_float4(w[0], w[1], w[2], w[3]);
  }
}

// The step that is read after `read` others.
__device__ __forceinline__ u32 step_read(u32 read, u32 length, bool reversed) {
  return reversed ? length - 1 - read : read;
}

// Grid (B, D). In: gates [N, G] hold W_ih x; out: the activated gates, the cells, states and states before, [N, S].
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    lstm_forward(const float* __restrict__ recurrent, const float* __restrict__ bias, const u32* __restrict__ starts,
                 const u32* __restrict__ lengths, u32 hidden, u32 reversed_directions, float* gates,
                 float* __restrict__ cells, float* __restrict__ states, float* __restrict__ before) {
  __shared__ float4 state[UNITS / 4];
  __shared__ float activated[THREADS];
  const u32 rank = blockIdx.x, direction = blockIdx.y;
  const u32 gate = threadIdx.x / UNITS, unit = threadIdx.x % UNITS;
  const bool real = unit < hidden, reversed = reversed_directions >> direction & 1;
  const u32 width = gridDim.y * hidden, column = (direction * 4 + gate) * hidden + unit;
  const u32 length = lengths[rank];

  float held[HELD];
  load(held, recurrent + (u64)column * hidden, 1, real ? hidden : 0);
  if (threadIdx.x < UNITS) ((float*)state)[unit] = 0.0f;
  __syncthreads();

  const float shift = real ? bias[column] : 0.0f;
  const bool owner = gate == 0 && real;
  float cell = 0.0f, last = 0.0f;
  u64 row = starts[step_read(0, length, reversed)] + rank;
  float sum = real ? gates[row * 4 * width + column] : 0.0f;
  for (u32 read = 0; read < length; ++read) {
    // The next step's number is on its way while this step is computed.
    u64 next = row;
    float sum_next = 0.0f;
    if (read + 1 < length) {
      next = starts[step_read(read + 1, length, reversed)] + rank;
      if (real) sum_next = gates[next * 4 * width + column];
    }
    const float a = sum + shift + weighted(held, state);
    const float y = gate == 2 ? tanhf(a) : sigmoid(a);
    activated[threadIdx.x] = y;
    if (real) gates[row * 4 * width + column] = y;
    __syncthreads();
    if (owner) {
      const u64 at = row * width + direction * hidden + unit;
      cell = activated[UNITS + unit] * cell + activated[unit] * activated[2 * UNITS + unit];
      before[at] = last;
      last = activated[3 * UNITS + unit] * tanhf(cell);
      cells[at] = cell;
      states[at] = last;
      ((float*)state)[unit] = last;
    }
    __syncthreads();
    row = next;
    sum = sum_next;
  }
}

// Grid (B, D). From the gradient of the states [N, S] that of the gates before their functions, [N, G].
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    lstm_backward(const float* __restrict__ recurrent, const u32* __restrict__ starts,
                  const u32* __restrict__ lengths, u32 hidden, u32 reversed_directions,
                  const float* __restrict__ gates, const float* __restrict__ cells,
                  const float* __restrict__ dstates, float* __restrict__ dgates) {
  __shared__ float4 dsums[THREADS / 4];
  __shared__ float parts[THREADS];
  const u32 rank = blockIdx.x, direction = blockIdx.y;
  const u32 quarter = threadIdx.x / UNITS, unit = threadIdx.x % UNITS;
  const bool real = unit < hidden, reversed = reversed_directions >> direction & 1;
  const u32 width = gridDim.y * hidden;
  const u32 length = lengths[rank];

  float held[HELD];
  load(held, recurrent + (u64)(direction * 4 + quarter) * hidden * hidden + unit, hidden, real ? hidden : 0);
  ((float*)dsums)[threadIdx.x] = 0.0f;
  parts[threadIdx.x] = 0.0f;
  __syncthreads();

  const bool owner = quarter == 0 && real;
  const u32 gate_column = direction * 4 * hidden + unit, state_column = direction * hidden + unit;
  float dcell = 0.0f;
  for (u32 left = length; left > 0; --left) {
    const u64 row = starts[step_read(left - 1, length, reversed)] + rank;
    if (owner) {
      const float* y = gates + row * 4 * width + gate_column;
      const float i = y[0], f = y[hidden], g = y[2 * hidden], o = y[3 * hidden];
      const float cell = cells[row * width + state_column];
      float cell_before = 0.0f;
      if (left > 1) {
        const u64 row_before = starts[step_read(left - 2, length, reversed)] + rank;
        cell_before = cells[row_before * width + state_column];
      }
      const float flows = (parts[unit] + parts[UNITS + unit]) + (parts[2 * UNITS + unit] + parts[3 * UNITS + unit]);
      const float dh = dstates[row * width + state_column] + flows;
      const float t = tanhf(cell);
      const float dc = dcell + dh * o * (1.0f - t * t);
      dcell = dc * f;
      float* d = (float*)dsums;
      float* to = dgates + row * 4 * width + gate_column;
      to[0] = d[unit] = dc * g * i * (1.0f - i);
      to[hidden] = d[UNITS + unit] = dc * cell_before * f * (1.0f - f);
      to[2 * hidden] = d[2 * UNITS + unit] = dc * i * (1.0f - g * g);
      to[3 * hidden] = d[3 * UNITS + unit] = dh * t * o * (1.0f - o);
    }
    __syncthreads();
    parts[threadIdx.x] = weighted(held, dsums + quarter * (UNITS / 4));
    __syncthreads();
  }
}

// ---- Any number of units: a product of all texts that run, then this, for each step of a direction.
//
// `row` is the first row of the step, `row_before` that of the step read before, from which the first `came` ranks come with
// a state. A thread a unit of a text.

extern "C" __global__ void cell_forward(const float* __restrict__ bias, u32 hidden, u32 directions, u32 direction,
                                        u32 row, u32 rows, u32 row_before, u32 came, float* __restrict__ gates,
                                        float* cells, float* states, float* __restrict__ before) {
  const u32 at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= rows * hidden) return;
  const u32 rank = at / hidden, unit = at % hidden;
  const u64 width = (u64)directions * hidden, column = direction * hidden + unit;
  float* y = gates + (row + rank) * 4 * width + direction * 4 * hidden + unit;
  const float* b = bias + direction * 4 * hidden + unit;
  const float i = sigmoid(y[0] + b[0]), f = sigmoid(y[hidden] + b[hidden]);
  const float g = tanhf(y[2 * hidden] + b[2 * hidden]), o = sigmoid(y[3 * hidden] + b[3 * hidden]);
  y[0] = i;
  y[hidden] = f;
  y[2 * hidden] = g;
  y[3 * hidden] = o;
  const u64 here = (row + rank) * width + column, there = (row_before + rank) * width + column;
  const float cell = (rank < came ? f * cells[there] : 0.0f) + i * g;
  before[here] = rank < came ? states[there] : 0.0f;
  cells[here] = cell;
  states[here] = o * tanhf(cell);
}

// `dstate` and `dcell` [B, H] by rank hold what flows back from the step read after.
extern "C" __global__ void cell_backward(u32 hidden, u32 directions, u32 direction, u32 row, u32 rows, u32 row_before,
                                         u32 came, const float* __restrict__ gates, const float* __restrict__ cells,
                                         const float* __restrict__ dstates, const float* __restrict__ dstate,
                                         float* __restrict__ dcell, float* __restrict__ dgates) {
  const u32 at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= rows * hidden) return;
  const u32 rank = at / hidden, unit = at % hidden;
  const u64 width = (u64)directions * hidden, column = direction * hidden + unit;
  const u64 first = (row + rank) * 4 * width + direction * 4 * hidden + unit;
  const u64 here = (row + rank) * width + column, there = (row_before + rank) * width + column;
  const float i = gates[first], f = gates[first + hidden], g = gates[first + 2 * hidden], o = gates[first + 3 * hidden];
  const float cell_before = rank < came ? cells[there] : 0.0f;
  const float dh = dstates[here] + dstate[at];
  const float t = tanhf(cells[here]);
  const float dc = dcell[at] + dh * o * (1.0f - t * t);
  dcell[at] = dc * f;
  dgates[first] = dc * g * i * (1.0f - i);
  dgates[first + hidden] = dc * cell_before * f * (1.0f - f);
  dgates[first + 2 * hidden] = dc * i * (1.0f - g * g);
  dgates[first + 3 * hidden] = dh * t * o * (1.0f - o);
}
