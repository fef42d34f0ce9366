// SHA-256 of a text, as hexadecimal digits. Browsers provide it only over HTTPS, and the dashboard is often used
// over plain HTTP. FIPS 180-4.

/** Returns the first 32 bits of the fractional parts of a root of the first primes. */
function primeRoots(count, root) {
  const primes = [];
  for (let n = 2; primes.length < count; n += 1) if (primes.every((prime) => n % prime)) primes.push(n);
  return primes.map((prime) => Math.floor((root(prime) % 1) * 2 ** 32));
}

const INITIAL = primeRoots(8, Math.sqrt);
const CONSTANTS = primeRoots(64, Math.cbrt);
const rotate = (word, bits) => (word >>> bits) | (word << (32 - bits));

/** Returns the text as bytes, padded to full blocks of 64 bytes. */
function padded(text) {
  const bytes = new TextEncoder().encode(text);
  const blocks = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
  blocks.set(bytes);
  blocks[bytes.length] = 0x80;
  new DataView(blocks.buffer).setUint32(blocks.length - 4, bytes.length * 8);
  return new DataView(blocks.buffer);
}

function schedule(data, offset) {
  const words = Array.from({ length: 16 }, (_, n) => data.getUint32(offset + 4 * n));
  for (let n = 16; n < 64; n += 1) {
    const [a, b] = [words[n - 15], words[n - 2]];
    const low = rotate(a, 7) ^ rotate(a, 18) ^ (a >>> 3);
    const high = rotate(b, 17) ^ rotate(b, 19) ^ (b >>> 10);
    words.push((words[n - 16] + low + words[n - 7] + high) | 0);
  }
  return words;
}

export function sha256(text) {
  const data = padded(text);
  let hash = INITIAL;
  for (let offset = 0; offset < data.byteLength; offset += 64) {
    let [a, b, c, d, e, f, g, h] = hash;
    for (const [n, word] of schedule(data, offset).entries()) {
      const choice = (e & f) ^ (~e & g);
      const majority = (a & b) ^ (a & c) ^ (b & c);
      const first = (h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choice + CONSTANTS[n] + word) | 0;
      const second = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + majority) | 0;
      [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
    }
    hash = [a, b, c, d, e, f, g, h].map((word, n) => (word + hash[n]) | 0);
  }
  return hash.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}
