import { KvidxError } from '../common/errors.ts'

/** Where a server listens. */
export interface ServerAddress {
  /** Scheme, host and port: what undici calls an origin. */
  readonly origin: string
  readonly socketPath?: string
}

export const DEFAULT_SERVER = 'http://127.0.0.1:7400'

/** Reads `http://host:port`, `https://host:port`, `host:port` or `unix:///path`. Errors: invalid_parameter. */
export function parseServer(text: string, field = '--server'): ServerAddress {
  const unix = /^unix:(?:\/\/)?(\/(?!\/).+)$/.exec(text)
  if (unix) return { origin: 'http://localhost', socketPath: unix[1] as string }
  const whole = /^[a-z]+:\/\//i.test(text) ? text : `http://${text}`
  const url = URL.canParse(whole) ? new URL(whole) : undefined
  const plain = url && (url.pathname === '/' || url.pathname === '') && url.search === '' && url.username === ''
  if (!url || !plain || !['http:', 'https:'].includes(url.protocol))
    throw new KvidxError(
      'invalid_parameter',
      `${field}: '${text}' is not the address of a server (allowed: http://host:port, https://host:port, unix:///path)`,
      { field },
    )
  return { origin: url.origin }
}
