import { asKvidxError, type ErrorCode, KvidxError } from '../../src/common/errors.ts'

export interface PlainError {
  readonly code: ErrorCode
  readonly message: string
  readonly details: Readonly<Record<string, unknown>>
}

export function toPlain(error: unknown): PlainError {
  const { code, message, details } = asKvidxError(error)
  return { code, message, details }
}

export function fromPlain(plain: PlainError): KvidxError {
  return new KvidxError(plain.code, plain.message, plain.details)
}
