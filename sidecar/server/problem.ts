import { STATUS_CODES } from 'node:http'
import { ERRORS, type ErrorCode, type KvidxError } from '../../src/common/errors.ts'

/** RFC 9457. */
export const PROBLEM_TYPE = 'application/problem+json'

/** Seconds for `Retry-After`, where the same request can succeed later. */
const RETRY_AFTER: Partial<Record<ErrorCode, number>> = { overloaded: 1, not_ready: 2, locked: 5, no_space: 30 }

export function retryAfter(error: KvidxError): number | undefined {
  const given = error.details.retryAfter
  if (typeof given === 'number') return Math.max(1, Math.ceil(given))
  return RETRY_AFTER[error.code]
}

/** The body of the answer. Members of `details` stand beside the fixed ones and never replace them. */
export function problemDocument(error: KvidxError): string {
  const kind = ERRORS[error.code]
  return stringify({
    ...error.details,
    type: `urn:kvidx:problem:${error.code}`,
    title: kind.title,
    status: kind.status,
    detail: error.message,
    code: error.code,
    retryable: error.retryable,
  })
}

/** A whole HTTP/1.1 answer, for a connection on which no request could be read. */
export function rawProblem(error: KvidxError): string {
  const body = problemDocument(error)
  return (
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status] ?? 'Error'}\r\n` +
    `content-type: ${PROBLEM_TYPE}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`
  )
}

/** JSON with every bigint as a decimal string. */
export function stringify(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) => (typeof member === 'bigint' ? String(member) : member))
}
