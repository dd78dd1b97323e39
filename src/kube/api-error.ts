/** One thing that is wrong with a request, as the API server names it. */
export interface StatusCause {
  readonly reason?: string
  readonly message?: string
  /** Path of the field, such as `spec.replicas`. */
  readonly field?: string
}

export interface StatusDetails {
  readonly name?: string
  readonly group?: string
  readonly kind?: string
  readonly uid?: string
  readonly causes?: readonly StatusCause[]
  readonly retryAfterSeconds?: number
}

export interface KubeApiErrorInit {
  /** HTTP status; 0 when no answer came. */
  readonly status: number
  /** Kubernetes' machine-readable reason (`NotFound`, `Conflict`, `Expired`, …); `Unreachable` or `Timeout` when no answer came. */
  readonly reason: string
  readonly message: string
  readonly details?: StatusDetails
  /** What the server asked to wait, in ms. */
  readonly retryAfter?: number | undefined
  readonly cause?: unknown
}

/** What a call of the API server came to when it did not succeed. */
export class KubeApiError extends Error {
  override readonly name = 'KubeApiError'
  /** HTTP status; 0 when no answer came. */
  readonly status: number
  readonly reason: string
  readonly details: StatusDetails
  /** What the server asked to wait, in ms. */
  readonly retryAfter: number | undefined

  constructor(init: KubeApiErrorInit) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause })
    this.status = init.status
    this.reason = init.reason
    this.details = init.details ?? {}
    this.retryAfter = init.retryAfter
  }
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  406: 'NotAcceptable',
  409: 'Conflict',
  410: 'Gone',
  413: 'RequestEntityTooLarge',
  415: 'UnsupportedMediaType',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
}

interface StatusBody {
  readonly kind?: unknown
  readonly code?: unknown
  readonly reason?: unknown
  readonly message?: unknown
  readonly details?: StatusDetails
}

/**
 * The error that an answer's body tells of: a `Status` object, or text as proxies send it.
 * @param what the call, for the message: `get pods default/a`
 */
export function errorFromAnswer(what: string, status: number, body: string, retryAfter?: number): KubeApiError {
  const parsed = parseStatus(body)
  if (parsed === undefined) {
    const text = body.trim().slice(0, 200)
    return new KubeApiError({
      status,
      reason: REASONS[status] ?? 'Unknown',
      message: `${what}: HTTP ${status}${text === '' ? '' : `: ${text}`}`,
      retryAfter,
    })
  }
  return errorFromStatus(what, parsed, status, retryAfter)
}

/** The error in a `Status` object: the body of an answer, or the object of a watch's ERROR event. */
export function errorFromStatus(what: string, body: StatusBody, status = 500, retryAfter?: number): KubeApiError {
  const code = typeof body.code === 'number' ? body.code : status
  const details = body.details ?? {}
  const asked = details.retryAfterSeconds
  return new KubeApiError({
    status: code,
    reason: typeof body.reason === 'string' && body.reason !== '' ? body.reason : (REASONS[code] ?? 'Unknown'),
    message: `${what}: ${typeof body.message === 'string' ? body.message : `HTTP ${code}`}`,
    details,
    retryAfter: retryAfter ?? (asked === undefined ? undefined : asked * 1000),
  })
}

function parseStatus(body: string): StatusBody | undefined {
  try {
    const value: unknown = JSON.parse(body)
    if (typeof value === 'object' && value !== null && (value as StatusBody).kind === 'Status')
      return value as StatusBody
  } catch {
    // not JSON: a proxy's page
  }
  return undefined
}

export function isApiError(error: unknown, reason?: string): error is KubeApiError {
  return error instanceof KubeApiError && (reason === undefined || error.reason === reason)
}

/** There is no such object (or no such kind). */
export function isNotFound(error: unknown): error is KubeApiError {
  return error instanceof KubeApiError && error.status === 404
}

/** The object was changed by somebody since it was read, or a precondition of a delete does not hold. */
export function isConflict(error: unknown): error is KubeApiError {
  return isApiError(error, 'Conflict')
}

/** A create met an object of the same name. */
export function isAlreadyExists(error: unknown): error is KubeApiError {
  return isApiError(error, 'AlreadyExists')
}

/** The object breaks a rule of its kind. */
export function isInvalid(error: unknown): error is KubeApiError {
  return isApiError(error, 'Invalid')
}

/** The object cannot be made as it is: a quota is used up, a policy forbids it, a field is wrong. Not that its namespace is going. */
export function isRefused(error: unknown): error is KubeApiError {
  return error instanceof KubeApiError && [400, 403, 422].includes(error.status) && !isNamespaceTerminating(error)
}

/** The resource version is too old for the server: list again. */
export function isExpired(error: unknown): error is KubeApiError {
  return (
    error instanceof KubeApiError && (error.status === 410 || error.reason === 'Expired' || error.reason === 'Gone')
  )
}

/** The namespace is being deleted, so nothing can be created in it any more. */
export function isNamespaceTerminating(error: unknown): error is KubeApiError {
  return (
    isApiError(error, 'Forbidden') &&
    (error.details.causes?.some(cause => cause.reason === 'NamespaceTerminating') ?? false)
  )
}

/** `await undefinedIfMissing(api.get(PODS, ref))` */
export async function undefinedIfMissing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    if (isNotFound(error)) return undefined
    throw error
  }
}
