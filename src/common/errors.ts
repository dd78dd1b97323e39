/**
 * One table of every error that a person or a program can meet: a stable code, the HTTP status of the problem document, whether
 * the same call can succeed later, and what to do. RFC 9457 gives the document's shape.
 */
interface ErrorKind {
  readonly status: number
  readonly title: string
  /** The same request can succeed later without a change. */
  readonly retryable?: true
}

export const ERRORS = {
  // requests
  invalid_key: { status: 400, title: 'The key is not an unsigned 64-bit integer' },
  invalid_parameter: { status: 400, title: 'A parameter has a value that is not allowed' },
  unknown_parameter: { status: 400, title: 'The call does not have this parameter' },
  malformed_request: { status: 400, title: 'The request is not HTTP/1.1' },
  invalid_body: { status: 400, title: 'The body cannot be read' },
  range_required: { status: 400, title: 'Removing every record needs all=true' },
  unauthorized: { status: 401, title: 'A valid token is needed' },
  forbidden: { status: 403, title: 'This token does not allow the call' },
  not_found: { status: 404, title: 'There is no such record' },
  no_such_route: { status: 404, title: 'There is no such address' },
  method_not_allowed: { status: 405, title: 'The address does not have this method' },
  not_acceptable: { status: 406, title: 'None of the accepted media types can be given' },
  request_timeout: { status: 408, title: 'The request did not arrive in time', retryable: true },
  conflict: { status: 409, title: 'The state of the database does not allow this now' },
  duplicate_key: { status: 409, title: 'The key exists already' },
  superseded: { status: 409, title: 'It was meant for an earlier epoch of the database' },
  volume_not_empty: { status: 409, title: 'The volume has data already' },
  log_trimmed: { status: 410, title: 'The change log no longer reaches back that far' },
  condition_failed: { status: 412, title: 'The condition does not hold' },
  too_large: { status: 413, title: 'The request is above a limit' },
  unsupported_media_type: { status: 415, title: 'The media type of the body is not supported' },
  range_not_satisfiable: { status: 416, title: 'The byte range lies outside the data' },
  setting_unsupported: { status: 422, title: 'The engine does not have this setting' },
  invalid_manifest: { status: 422, title: 'The manifest is not valid' },
  overloaded: { status: 429, title: 'Too much is waiting already', retryable: true },
  headers_too_large: { status: 431, title: 'The headers of the request are too long' },
  // the process
  internal: { status: 500, title: 'The program met a state it does not know' },
  not_ready: { status: 503, title: 'The database is not ready', retryable: true },
  unknown_outcome: { status: 503, title: 'It is not known whether the change was made' },
  cancelled: { status: 503, title: 'The work was cancelled' },
  snapshot_cut: { status: 503, title: 'The snapshot held up too much space', retryable: true },
  no_space: { status: 507, title: 'There is no space left', retryable: true },
  // engine and volume
  engine_io: { status: 500, title: 'The engine cannot read or write its files' },
  engine_corrupt: { status: 500, title: 'The database is damaged' },
  engine_unavailable: { status: 500, title: 'The engine cannot be loaded on this machine' },
  data_lost: { status: 503, title: 'The volume holds no database, but there was one' },
  foreign_volume: { status: 503, title: 'The volume belongs to another database' },
  locked: { status: 503, title: 'Another process has the database open', retryable: true },
  // backup store
  store_unreachable: { status: 503, title: 'The backup store does not answer', retryable: true },
  store_denied: { status: 403, title: 'The backup store refuses the credentials' },
  backup_not_found: { status: 404, title: 'There is no such backup' },
  backup_corrupt: { status: 500, title: 'The backup is damaged' },
  backup_gap: { status: 409, title: 'The chain of changes has a gap' },
  backup_exists: { status: 409, title: 'A backup of this name exists already' },
  foreign_lineage: { status: 409, title: 'The backup belongs to another lineage' },
  wrong_encryption_key: { status: 409, title: 'The encryption key does not fit' },
  history_conflict: { status: 409, title: 'The store holds another history under the same position' },
  snapshot_refused: { status: 500, title: 'The storage driver does not make the VolumeSnapshot' },
  insufficient_space: { status: 507, title: 'There is not enough free space for this' },
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

/** An error with a stable code. The message names the field, the value and what is allowed. */
export class KvidxError extends Error {
  override readonly name = 'KvidxError'
  readonly code: ErrorCode
  /** Further members of the problem document: `field`, `allowed`, `line`, `record`, `position`, … */
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, details: Readonly<Record<string, unknown>> = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.details = details
  }

  get status(): number {
    return ERRORS[this.code].status
  }

  get retryable(): boolean {
    return 'retryable' in ERRORS[this.code]
  }
}

/** A flag whose value cannot be used. */
export function refused(flag: string, message: string): KvidxError {
  return new KvidxError('invalid_parameter', `${flag}: ${message}`, { field: flag })
}

/** Any thrown thing as a KvidxError; what is not one becomes `internal` with the original as cause. */
export function asKvidxError(thrown: unknown): KvidxError {
  if (thrown instanceof KvidxError) return thrown
  return new KvidxError('internal', thrown instanceof Error ? thrown.message : String(thrown), {}, thrown)
}
