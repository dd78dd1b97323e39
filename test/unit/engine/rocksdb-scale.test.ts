import { expect, test } from 'vitest'
import { scaleOf } from '../../../sidecar/engine/rocksdb/scale.ts'

test('buffers shrink with the volume, by powers of two from 1/32 to 1', () => {
  const GIB = 2 ** 30
  expect([1000, 4, 3.9, 2, 1, 0.06, 0.001].map(size => scaleOf(size * GIB))).toEqual([
    1,
    1,
    1 / 2,
    1 / 2,
    1 / 4,
    1 / 32,
    1 / 32,
  ])
})
