import { asKvidxError } from '../../src/common/errors.ts'

/** How far it is; `total` undefined while it is not known. */
export type JobProgress = (stage: string, done: number, total?: number) => void

/** Any failure with a code. */
export function failureOf(thrown: unknown): { code: string; message: string } {
  if (thrown instanceof Error && thrown.name === 'Unreachable') return { code: 'unreachable', message: thrown.message }
  return asKvidxError(thrown)
}
