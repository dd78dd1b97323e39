import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { type KvidxDatabase, kvidxDatabaseSchema } from '../../../src/api/v1alpha1/kvidx-database.ts'
import { parseSidecarConfig, renderSidecarConfig, sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import { validate } from '../../../src/api/validate.ts'
import { database, FULL, type Json } from '../../support/api-objects.ts'

/** Paths of everything inside of a value. */
function paths(value: unknown, path: (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [path]
  return [
    path,
    ...Object.entries(value).flatMap(([key, member]) =>
      paths(member, [...path, Array.isArray(value) ? Number(key) : key]),
    ),
  ]
}

function put(root: Json, path: readonly (string | number)[], value: unknown): Json {
  const copy = JSON.parse(JSON.stringify(root)) as Json
  if (path.length === 0) return value as Json
  let node = copy as Record<string | number, unknown>
  for (const step of path.slice(0, -1)) node = node[step] as Record<string | number, unknown>
  node[path.at(-1)!] = value
  return copy
}

const BASE = database(FULL)
const PATHS = paths(BASE)

const anything = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom(
    '0',
    '1Gi',
    '0.5',
    '1.5Gi',
    '0.1Ki',
    '10%',
    '5s',
    '0s',
    '7d',
    'auto',
    '-1',
    '1e3',
    '9E',
    '',
    'ä',
    '__proto__',
    Number.MAX_SAFE_INTEGER,
    1e308,
    -0,
    0.5,
  ),
  fc.constant(JSON.parse('{"__proto__": {"size": "1Gi"}, "constructor": 1, "toString": []}')),
)

describe('validation', () => {
  it('answers for any change of a valid object, and what it takes becomes a configuration that the sidecar reads', () => {
    let taken = 0
    fc.assert(
      fc.property(fc.constantFrom(...PATHS), anything, (path, value) => {
        const object = put(BASE, path, value)
        const problems = validate(kvidxDatabaseSchema, object, BASE)
        for (const problem of problems) expect(problem.message).not.toBe('')
        if (problems.length > 0) return
        taken++
        const { metadata, spec } = object as unknown as KvidxDatabase
        const config = sidecarConfig({ namespace: 'shop', name: metadata.name, spec: withDefaults(spec) })
        expect(parseSidecarConfig(renderSidecarConfig(config), 'config.json')).toEqual(config)
      }),
      { numRuns: 1000 },
    )
    // otherwise the second half of the property says nothing
    expect(taken).toBeGreaterThan(20)
  })

  it('never throws on anything at all', () => {
    fc.assert(
      fc.property(anything, anything, (value, old) => {
        expect(validate(kvidxDatabaseSchema, value, old).length).toBeGreaterThan(0)
      }),
      { numRuns: 500 },
    )
  })

  it('does not look at what the API server lets pass in pods', () => {
    const containers = [{ name: 'app', constructor: 'x', items: [1, { properties: {} }] }]
    expect(validate(kvidxDatabaseSchema, database({ podTemplate: { spec: { containers } } }))).toEqual([])
  })
})
