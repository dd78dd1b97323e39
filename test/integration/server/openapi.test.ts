import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { ROUTES } from '../../../sidecar/server/routes.ts'
import { call, lines, startForTest } from './harness.ts'

// biome-ignore lint/suspicious/noExplicitAny: an OpenAPI document is looked into at many depths
type Json = any

/** Schemas that the document uses in the place of `name`. */
function everySchema(value: Json, at = '#'): Array<{ at: string; schema: Json }> {
  if (typeof value !== 'object' || value === null) return []
  const own = value.schema && typeof value.schema === 'object' ? [{ at: `${at}/schema`, schema: value.schema }] : []
  return [...own, ...Object.entries(value).flatMap(([name, member]) => everySchema(member, `${at}/${name}`))]
}

describe('the OpenAPI document', () => {
  let document: Json
  let ajv: Ajv2020
  const compile = (schema: Json) => ajv.compile({ ...schema, components: document.components })
  beforeAll(async () => {
    const { openApiDocument } = await import('../../../sidecar/server/openapi.ts')
    document = JSON.parse(JSON.stringify(openApiDocument(ROUTES)))
    ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false })
  })

  test('is served without a token, as the routes have it', async () => {
    const { url } = await startForTest()
    const served = await call(`${url}/v1/openapi.json`)
    expect(served.status).toBe(200)
    expect(served.json).toEqual(document)
    expect(served.json.openapi).toBe('3.1.0')
  })

  test('is OpenAPI 3.1 by the schema of the OpenAPI Initiative', () => {
    const schema = JSON.parse(readFileSync(new URL('../../fixtures/openapi/schema-3.1.json', import.meta.url), 'utf8'))
    const validate = new Ajv2020({ strict: false, allErrors: true, validateFormats: false }).compile(schema)
    expect([validate(document), validate.errors]).toEqual([true, null])
    expect(validate({ ...document, paths: { '/v1/count': { get: { responses: { 200: {} } } } } })).toBe(false)
  })

  test('documents each route, and only such, each with another operationId', () => {
    const documented = Object.entries<Json>(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map(method => `${method.toUpperCase()} ${path}`),
    )
    expect(documented.sort()).toEqual(ROUTES.map(route => `${route.method} ${route.path}`).sort())
    const ids = Object.values<Json>(document.paths).flatMap(methods =>
      Object.values<Json>(methods).map(operation => operation.operationId),
    )
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('has every row of the table of the design', () => {
    for (const row of [
      'GET /v1/records/{key}',
      'HEAD /v1/records/{key}',
      'PUT /v1/records/{key}',
      'PATCH /v1/records/{key}',
      'DELETE /v1/records/{key}',
      'PUT /v1/records/{key}/expiry',
      'DELETE /v1/records/{key}/expiry',
      'GET /v1/records',
      'DELETE /v1/records',
      'GET /v1/count',
      'GET /v1/stats',
      'POST /v1/batch',
      'GET /v1/export',
      'POST /v1/import',
      'GET /v1/changes',
      ...['checkpoint', 'vacuum', 'compact', 'expire', 'check', 'freeze', 'thaw'].map(name => `POST /v1/admin/${name}`),
      'GET /v1/admin/snapshot',
    ]) {
      const [method, path] = row.split(' ') as [string, string]
      expect([row, document.paths[path]?.[method.toLowerCase()] !== undefined]).toEqual([row, true])
    }
  })

  test('says how a backup reads slices', () => {
    const { parameters } = document.paths['/v1/admin/slice'].get
    expect(parameters.map(({ name, required }: Json) => [name, required ?? false])).toEqual(
      ['start', 'end', 'startExclusive', 'endExclusive', 'bytes'].map(name => [name, name === 'bytes']),
    )
    const lease = document.paths['/v1/admin/consumers'].put.parameters.find(({ name }: Json) => name === 'lease')
    expect(lease.schema).toMatchObject({ type: 'string' })
  })

  test('each documented address exists: nobody answers 404 no_such_route or 405', async () => {
    const { url } = await startForTest()
    for (const [path, methods] of Object.entries<Json>(document.paths))
      for (const method of Object.keys(methods)) {
        // the parameter does not exist, so nothing is done
        const answer = await call(`${url}${path.replace('{key}', '1')}?nothing=1`, method.toUpperCase())
        expect([method, path, answer.status]).toEqual([method, path, 400])
        if (method !== 'head') expect(answer.json.code).toBe('unknown_parameter')
      }
  })

  test('its schemas compile, its references lead somewhere, and its examples are valid', () => {
    const schemas = [
      ...everySchema(document.paths),
      ...Object.entries<Json>(document.components.schemas).map(([name, schema]) => ({ at: name, schema })),
    ]
    expect(schemas.length).toBeGreaterThan(100)
    let examples = 0
    const check = (schema: Json, at: string): void => {
      if (typeof schema !== 'object' || schema === null) return
      if (Array.isArray(schema.examples)) {
        const validate = compile(schema)
        for (const example of schema.examples) {
          examples++
          expect([at, example, validate(example), validate.errors]).toEqual([at, example, true, null])
        }
      }
      for (const [name, member] of Object.entries(schema)) if (name !== 'examples') check(member, `${at}/${name}`)
    }
    for (const { at, schema } of schemas) {
      expect(() => compile(schema), at).not.toThrow()
      check(schema, at)
    }
    expect(examples).toBeGreaterThan(30)
  })

  test('answers are as documented', async () => {
    const { url, database } = await startForTest()
    const seen = new Set<string>()
    const hold = async (path: string, method: string, query = '', init: RequestInit = {}): Promise<Json> => {
      const answer = await call(`${url}${path.replace('{key}', '1')}${query}`, method, init)
      const operation = document.paths[path][method.toLowerCase()]
      const documented = operation.responses[answer.status]
      expect([method, path, answer.status, documented !== undefined]).toEqual([method, path, answer.status, true])
      for (const name of Object.keys(documented.headers ?? {}))
        if (name === 'Kvidx-Position') expect(answer.headers.get(name)).not.toBeNull()
      const type = answer.headers.get('content-type')
      if (answer.text !== '' && type) {
        const schema = documented.content?.[type]?.schema
        expect([method, path, type, schema !== undefined]).toEqual([method, path, type, true])
        const validate = compile(schema)
        const documents = type === 'application/x-ndjson' ? lines(answer.text) : /json/.test(type) ? [answer.json] : []
        for (const value of documents)
          expect([method, path, value, validate(value), validate.errors]).toEqual([method, path, value, true, null])
        if (documents.length > 0) seen.add(operation.operationId)
      }
      return answer.json
    }
    const json = { headers: { accept: 'application/json' } }
    const record = '/v1/records/{key}'
    await hold(record, 'PUT', '?ttl=1h', { body: 'a' })
    await hold(record, 'PUT', '?return=previous', { body: 'b', ...json })
    await hold(record, 'PATCH', '?op=append&return=previous', { body: 'c', ...json })
    await hold(record, 'GET', '', json)
    await hold(record, 'GET', '?x=1')
    await hold('/v1/records', 'GET')
    await hold('/v1/records', 'GET', '?values=false&start=1')
    await hold('/v1/count', 'GET')
    await hold('/v1/stats', 'GET')
    await hold('/v1/changes', 'GET', `?since=${database.state.position.epoch}.${database.state.position.seq - 1n}`)
    await hold('/v1/batch', 'POST', '', {
      body: JSON.stringify({
        ops: [
          { op: 'put', key: 1, text: 'd', return: 'previous' },
          { op: 'deleteRange', start: 1, end: 2 },
        ],
      }),
      headers: { 'content-type': 'application/json' },
    })
    await hold(record, 'DELETE', '?return=previous')
    await hold('/v1/records', 'DELETE', '?all=true')
    await hold('/v1/import', 'POST', '?format=csv&onDuplicate=replace&clear=true', {
      body: 'key,term,cmd,data\n1,0,0,x\n',
    })
    const { token } = await hold('/v1/admin/freeze', 'POST', '?lease=5s')
    await hold('/v1/admin/thaw', 'POST', `?token=${token}`)
    await hold('/v1/openapi.json', 'GET')
    expect([...seen].sort()).toEqual(
      [
        'putRecord',
        'patchRecord',
        'getRecord',
        'scanRecords',
        'countRecords',
        'getStats',
        'changes',
        'batch',
        'deleteRecord',
        'deleteRange',
        'import',
        'freeze',
        'thaw',
        'openapi',
      ].sort(),
    )
    onTestFinished(() => {})
  })

  test('tasks answer as documented, with progress for who asks for it', async () => {
    const { url } = await startForTest({
      instead: () => ({
        tasks: [{ name: 'check', running: true, progress: 0.5 }],
        runTask: async name => {
          await new Promise(resolve => setTimeout(resolve, name === 'check' ? 1200 : 0))
          return { freedBytes: 4096 }
        },
        cancelTask: name => name === 'check',
      }),
    })
    const plain = await call(`${url}/v1/admin/vacuum`, 'POST')
    expect(plain.json).toMatchObject({ task: 'vacuum', outcome: 'ok', freedBytes: 4096 })
    expect(compile({ $ref: '#/components/schemas/TaskResult' })(plain.json)).toBe(true)
    const followed = await call(`${url}/v1/admin/check`, 'POST', { headers: { accept: 'application/x-ndjson' } })
    const told = lines(followed.text)
    expect(told.length).toBeGreaterThan(2)
    expect(told[0]).toEqual({ task: 'check', progress: 0.5 })
    expect(told.at(-1)).toMatchObject({ end: true, outcome: 'ok', freedBytes: 4096 })
    const validate = compile({ $ref: '#/components/schemas/TaskLine' })
    for (const line of told) expect([line, validate(line)]).toEqual([line, true])
    expect((await call(`${url}/v1/admin/check`, 'DELETE')).status).toBe(204)
    expect((await call(`${url}/v1/admin/vacuum`, 'DELETE')).json.code).toBe('conflict')
    expect((await call(`${url}/v1/admin/vacuum`, 'POST', { body: 'x' })).json.code).toBe('invalid_body')
  })
})
