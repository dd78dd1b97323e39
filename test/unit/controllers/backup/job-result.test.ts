import { expect, test } from 'vitest'
import { parseJobResult } from '../../../../src/controllers/backup/job-result.ts'

test('the result of a job becomes status; what an older operator does not know is left out', () => {
  const result = { phase: 'Completed', records: 3, slices: 17, storedBytes: '2048', novelty: 'x' }
  expect(parseJobResult(JSON.stringify(result))).toEqual({
    phase: 'Completed',
    status: { records: 3, slices: 17, storedBytes: 2048, size: '2.00 KiB' },
  })
  expect(() => parseJobResult('{"phase":"Done"}')).toThrow("phase 'Done'")
  expect(() => parseJobResult('[]')).toThrow('not an object')
  expect(() => parseJobResult('Completed')).toThrow('not JSON')
})
