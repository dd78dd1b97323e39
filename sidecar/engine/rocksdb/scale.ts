/** Volumes from this size on have buffers and tables of full size, bytes. */
const FULL_SIZE = 2 ** 32

/**
 * Buffers, logs (allocated ahead, a buffer and a tenth at a time) and the tables that a compaction rewrites must be small beside the volume, or flushes and compactions
 * fill it although most of it is free. A power of two from 1/32 to 1.
 */
export function scaleOf(volumeBytes: number): number {
  return 2 ** Math.max(-5, Math.min(0, Math.floor(Math.log2(volumeBytes / FULL_SIZE))))
}
