import { openApiDocument } from '../../../sidecar/server/openapi.ts'
import { ROUTES } from '../../../sidecar/server/routes.ts'

// biome-ignore lint/suspicious/noExplicitAny: an OpenAPI document is looked into at many depths
const paths: any = JSON.parse(JSON.stringify(openApiDocument(ROUTES))).paths

/** Headers of HTTP itself, which no call documents for itself. */
const OF_HTTP =
  /^(connection|keep-alive|date|content-length|content-type|transfer-encoding|accept-ranges|retry-after|cache-control|www-authenticate|vary)$/

/**
 * What an answer has that the OpenAPI document does not tell: its status, a header, or a media type. Undefined for what is as documented, and for
 * addresses and methods that it does not have.
 */
export function undocumented(method: string, url: string, status: number, headers: Headers): string | undefined {
  const { pathname } = new URL(url)
  const path = pathname.replace(/^\/v1\/records\/[^/]+/, '/v1/records/{key}')
  const operation = paths[path]?.[method.toLowerCase()]
  // of the parser, before there is a call: 408 of the head, 431
  if (!operation || status === 431) return undefined
  const answer = operation.responses[status]
  const what = `${method} ${path}: ${status}`
  if (!answer) return `${what} is not documented`
  const documented = new Set(Object.keys(answer.headers ?? {}).map(name => name.toLowerCase()))
  // problem documents are described once for all calls
  const problem = headers.get('content-type') === 'application/problem+json'
  for (const name of headers.keys())
    if (!OF_HTTP.test(name) && !documented.has(name) && !(problem && PROBLEM_HEADERS.has(name)))
      return `${what} has the header ${name}, which is not documented`
  const type = headers.get('content-type')?.replace(/;.*/, '')
  if (type && method !== 'HEAD' && answer.content?.[type] === undefined)
    return `${what} has the media type ${type}, which is not documented`
  return undefined
}

const PROBLEM_HEADERS: ReadonlySet<string> = new Set(['kvidx-position', 'etag', 'content-range', 'allow'])
