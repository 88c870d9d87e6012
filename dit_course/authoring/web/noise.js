// PyTorch's noise for a seed, so that a page draws the pictures that `FewStepSampler.sample(n, seed=seed)` draws:
// torch.randn on the CPU, with a generator of its own.

// Mersenne Twister (Matsumoto & Nishimura 1998, doi 10.1145/272991.272995), 32 random bits a call
export function mersenneTwister(seed) {
  const N = 624, M = 397, state = new Uint32Array(N);
  state[0] = seed;
  for (let i = 1; i < N; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let next = N;

  function twist() {
    for (let i = 0; i < N; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff);
      state[i] = state[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    next = 0;
  }

  return () => {
    if (next === N) twist();
    let y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

// `size` normal numbers, as torch fills a tensor of 16 or more floats: uniform numbers of 24 bits, and on each sixteen of
// them Box & Muller's transform (1958, doi 10.1214/aoms/1177706645), the i-th with the (i + 8)-th. What is left at the end
// takes new uniform numbers for its last sixteen. (aten/src/ATen/native/cpu/DistributionTemplates.h, normal_fill)
export function randn(random, size) {
  if (size < 16) throw new RangeError(`${size} numbers: below 16 PyTorch draws in another way`);
  const uniform = () => (random() & 0xffffff) / 0x1000000;
  const out = Float32Array.from({ length: size }, uniform);

  function boxMuller(start) {
    for (let i = start; i < start + 8; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - out[i])), angle = 2 * Math.PI * out[i + 8];
      out[i] = radius * Math.cos(angle);
      out[i + 8] = radius * Math.sin(angle);
    }
  }

  for (let start = 0; start + 16 <= size; start += 16) boxMuller(start);
  if (size % 16) {
    for (let i = size - 16; i < size; i++) out[i] = uniform();
    boxMuller(size - 16);
  }
  return out;
}
