import type { TSchema } from '@sinclair/typebox'
import { ERRORS } from '../../src/common/errors.ts'
import { PROBLEM_TYPE } from './problem.ts'
import type { MediaTypes, Route } from './route.ts'
import { COMPONENTS, EtagText, KeyText, PositionText, ProblemJson, U64Decimal } from './schemas.ts'

/** The OpenAPI 3.1 document of the routes, from the schemas that they themselves use. */

type Json = Record<string, unknown>

const HEADERS: Readonly<Record<string, { description: string; schema: TSchema }>> = {
  'Kvidx-Position': { description: 'position of the commit, or of the snapshot that was read', schema: PositionText },
  ETag: { description: "the record's own digest in double quotes", schema: EtagText },
  'Kvidx-Term': { description: "the record's term", schema: U64Decimal },
  'Kvidx-Cmd': { description: "the record's cmd", schema: U64Decimal },
  'Kvidx-Expires-At': { description: 'Unix ms; absent: never', schema: U64Decimal },
  'Kvidx-Length': { description: 'bytes of data after the change', schema: U64Decimal },
  'Content-Range': { description: 'which bytes of how many', schema: plain('string') },
  'Kvidx-Lineage': { description: 'lineage of the database', schema: plain('string') },
  'Kvidx-Time': { description: 'time of the last commit, Unix ms', schema: U64Decimal },
  'Kvidx-Count': { description: 'stored records', schema: U64Decimal },
  'Kvidx-Data-Bytes': { description: 'sum of their data lengths', schema: U64Decimal },
  'Kvidx-Digest': { description: 'content digest', schema: EtagText },
}

function plain(type: string): TSchema {
  return { type } as unknown as TSchema
}

/** What every call can answer. */
const COMMON_PROBLEMS = [400, 429, 500, 503]
const WRITE_PROBLEMS = [507]

let text: string | undefined

/** The document as JSON; made once. */
export function openApiText(routes: readonly Route[]): string {
  text ??= JSON.stringify(openApiDocument(routes))
  return text
}

export function openApiDocument(routes: readonly Route[]): Json {
  const paths: Record<string, Record<string, Json>> = {}
  for (const route of routes) {
    paths[route.path] ??= {}
    Object.assign(paths[route.path] as object, { [route.method.toLowerCase()]: operation(route) })
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'kvidx data API',
      version: '1',
      description:
        'An indexed key-value database. Keys, terms and cmds are unsigned 64-bit integers, written as decimal strings in JSON. Every answer carries Kvidx-Position.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: Object.fromEntries(COMPONENTS.map(schema => [schema.$id as string, inline(schema)])),
      securitySchemes: { token: { type: 'http', scheme: 'bearer', description: 'a token for read, write or admin' } },
    },
  }
}

function operation(route: Route): Json {
  const parameters: Json[] = []
  if (route.path.includes('{key}'))
    parameters.push({
      name: 'key',
      in: 'path',
      required: true,
      schema: clean(KeyText),
      description: KeyText.description,
    })
  for (const [name, parameter] of Object.entries(route.query))
    parameters.push({
      name,
      in: 'query',
      description: parameter.description,
      ...(parameter.required && { required: true }),
      schema: reference(parameter.schema),
    })
  for (const [name, header] of Object.entries(route.requestHeaders ?? {}))
    parameters.push({ name, in: 'header', description: header.description, schema: reference(header.schema) })
  const problems = new Set([...COMMON_PROBLEMS, ...(route.problems ?? [])])
  if (route.rights !== 'none') for (const status of [401, 403]) problems.add(status)
  if (route.rights === 'write') for (const status of WRITE_PROBLEMS) problems.add(status)
  if (route.requestBody) problems.add(408)
  return {
    operationId: route.name,
    summary: route.summary,
    security: route.rights === 'none' ? [] : [{ token: [] }],
    'x-rights': route.rights,
    ...(parameters.length > 0 && { parameters }),
    ...(route.requestBody && { requestBody: { content: content(route.requestBody) } }),
    responses: {
      ...Object.fromEntries(
        Object.entries(route.answers).map(([status, { description, headers = [], body }]) => [
          status,
          {
            description,
            headers: headersOf(route.name === 'openapi' ? headers : ['Kvidx-Position', ...headers]),
            ...(body && { content: content(body) }),
          },
        ]),
      ),
      ...Object.fromEntries([...problems].sort().map(status => [String(status), problem(status)])),
    },
  }
}

function headersOf(names: readonly string[]): Json {
  return Object.fromEntries(
    names.map(name => {
      const header = HEADERS[name]
      if (!header) throw new TypeError(`the header ${name} is not described`)
      return [name, { description: header.description, schema: clean(header.schema) }]
    }),
  )
}

function problem(status: number): Json {
  const codes = Object.entries(ERRORS).filter(([, kind]) => kind.status === status)
  return {
    description: codes.map(([code, kind]) => `${code}: ${kind.title}`).join('; '),
    content: { [PROBLEM_TYPE]: { schema: reference(ProblemJson) } },
  }
}

function content(types: MediaTypes): Json {
  return Object.fromEntries(
    Object.entries(types).map(([type, schema]) => [type, { schema: schema === null ? {} : reference(schema) }]),
  )
}

/** A named schema by its name, any other as it is. */
function reference(schema: TSchema): unknown {
  return schema.$id === undefined ? clean(schema) : { $ref: `#/components/schemas/${schema.$id}` }
}

/** TypeBox's `$id`s and `$ref`s are names; in the document they are places. */
function inline(schema: TSchema): unknown {
  const { $id: _, ...rest } = clean(schema) as Json
  return rest
}

function clean(schema: unknown): unknown {
  return JSON.parse(JSON.stringify(schema), (name, value: unknown) =>
    name === '$ref' && typeof value === 'string' && !value.startsWith('#') ? `#/components/schemas/${value}` : value,
  )
}
