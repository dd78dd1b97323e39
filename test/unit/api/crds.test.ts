import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { customResourceDefinition, type StructuralSchema } from '../../../src/api/crd.ts'
import { crdFileName, LARGEST_CRD, renderCrd } from '../../../src/api/crd-file.ts'
import { KINDS } from '../../../src/api/kinds.ts'
import { validate } from '../../../src/api/validate.ts'

const CRDS = new URL('../../../crds/', import.meta.url)

interface Place {
  readonly path: string
  readonly schema: StructuralSchema
}

function* places(schema: StructuralSchema, path: string): Generator<Place> {
  yield { path, schema }
  for (const [name, property] of Object.entries(
    (schema.properties as Record<string, StructuralSchema> | undefined) ?? {},
  )) {
    yield* places(property, `${path}.${name}`)
  }
  if (schema.items) yield* places(schema.items as StructuralSchema, `${path}[]`)
  if (schema.additionalProperties) yield* places(schema.additionalProperties as StructuralSchema, `${path}{}`)
}

function* everywhere(): Generator<Place> {
  for (const kind of KINDS) {
    const { spec } = customResourceDefinition(kind) as {
      spec: { versions: { schema: { openAPIV3Schema: { properties: Record<string, StructuralSchema> } } }[] }
    }
    const { properties } = spec.versions[0]!.schema.openAPIV3Schema
    for (const part of ['spec', 'status']) yield* places(properties[part]!, `${kind.kind}.${part}`)
  }
}

const ALL = [...everywhere()]
const offenders = (wrong: (place: Place) => boolean): string[] => ALL.filter(wrong).map(({ path }) => path)

describe('the files in crds/', () => {
  it('are those that the schemas give: after a change run npm run generate', () => {
    expect(readdirSync(CRDS).sort()).toEqual(KINDS.map(crdFileName).sort())
    for (const kind of KINDS)
      expect(readFileSync(new URL(crdFileName(kind), CRDS), 'utf8'), kind.kind).toBe(renderCrd(kind))
  })

  it('are read back as what was meant, and are small enough for client-side apply', () => {
    for (const kind of KINDS) {
      const text = renderCrd(kind)
      expect(parse(text)).toEqual(JSON.parse(JSON.stringify(customResourceDefinition(kind))))
      expect(Buffer.byteLength(text)).toBeLessThan(LARGEST_CRD)
    }
  })
})

describe('the structural schemas', () => {
  it('are walked as a whole', () => expect(ALL.length).toBeGreaterThan(300))

  it('describe every field', () => {
    expect(offenders(({ path, schema }) => !path.endsWith('{}') && typeof schema.description !== 'string')).toEqual([])
  })

  it('bound every text, list and map, so that rules have a price', () => {
    expect(
      offenders(
        ({ schema }) => schema.type === 'string' && schema.enum === undefined && schema.maxLength === undefined,
      ),
    ).toEqual([])
    expect(offenders(({ schema }) => schema.type === 'array' && schema.maxItems === undefined)).toEqual([])
    expect(
      offenders(({ schema }) => schema.additionalProperties !== undefined && schema.maxProperties === undefined),
    ).toEqual([])
    expect(
      offenders(
        ({ schema }) => schema.type === 'integer' && (schema.minimum === undefined || schema.maximum === undefined),
      ),
    ).toEqual([])
  })

  it('tell server-side apply how lists merge', () => {
    expect(
      offenders(({ schema }) => schema.type === 'array' && schema['x-kubernetes-list-type'] === undefined),
    ).toEqual([])
  })

  it('have no keyword of ours left, and words that begin with a capital', () => {
    expect(offenders(({ schema }) => Object.keys(schema).some(name => name.startsWith('kvidx')))).toEqual([])
    const words = ALL.flatMap(({ schema }) => (schema.enum as string[] | undefined) ?? [])
    expect(words.length).toBeGreaterThan(50)
    expect(words.filter(word => !/^[A-Z][A-Za-z0-9]*$/.test(word))).toEqual([])
  })

  it('give a default to every field of the spec that is not a choice of its own', () => {
    const without = offenders(
      ({ path, schema }) =>
        /^Kvidx\w+\.spec\./.test(path) &&
        !/[\]}]/.test(path) &&
        schema.type !== 'object' &&
        schema.default === undefined &&
        !/Default[: ]/.test(String(schema.description)),
    )
    // required, or meaningful by being there
    expect(without).toMatchInlineSnapshot(`
      [
        "KvidxDatabase.spec.storage.size",
        "KvidxDatabase.spec.storage.autoGrow.maxSize",
        "KvidxDatabase.spec.backup.destination.volume.size",
        "KvidxDatabase.spec.backup.destination.s3.bucket",
        "KvidxDatabase.spec.backup.destination.s3.credentialsSecretRef.name",
        "KvidxDatabase.spec.backup.destination.s3.caSecretRef.name",
        "KvidxDatabase.spec.backup.drill.schedule",
        "KvidxDatabase.spec.backup.job.tolerations",
        "KvidxDatabase.spec.backup.job.priorityClassName",
        "KvidxDatabase.spec.bootstrap.restore.backup",
        "KvidxDatabase.spec.bootstrap.restore.source.database",
        "KvidxDatabase.spec.bootstrap.restore.source.volume.claimName",
        "KvidxDatabase.spec.bootstrap.restore.source.s3.bucket",
        "KvidxDatabase.spec.bootstrap.restore.source.s3.credentialsSecretRef.name",
        "KvidxDatabase.spec.bootstrap.restore.source.s3.caSecretRef.name",
        "KvidxDatabase.spec.bootstrap.restore.position",
        "KvidxDatabase.spec.bootstrap.import.format",
        "KvidxDatabase.spec.bootstrap.import.path",
        "KvidxDatabase.spec.bootstrap.import.volume.claimName",
        "KvidxDatabase.spec.bootstrap.import.s3.bucket",
        "KvidxDatabase.spec.bootstrap.import.s3.credentialsSecretRef.name",
        "KvidxDatabase.spec.bootstrap.import.s3.caSecretRef.name",
        "KvidxDatabase.spec.bootstrap.adopt",
        "KvidxDatabase.spec.recovery.allowEmpty",
        "KvidxDatabase.spec.maintenance.vacuum.window.schedule",
        "KvidxDatabase.spec.security.auth.secretRef.name",
        "KvidxDatabase.spec.security.tls.secretRef.name",
        "KvidxDatabase.spec.security.encryption.secretRef.name",
        "KvidxDatabase.spec.security.encryption.keyId",
        "KvidxDatabase.spec.podTemplate.spec.containers",
        "KvidxDatabase.spec.podTemplate.spec.initContainers",
        "KvidxDatabase.spec.podTemplate.spec.volumes",
        "KvidxDatabase.spec.podTemplate.spec.tolerations",
        "KvidxDatabase.spec.podTemplate.spec.topologySpreadConstraints",
        "KvidxDatabase.spec.podTemplate.spec.priorityClassName",
        "KvidxDatabase.spec.podTemplate.spec.runtimeClassName",
        "KvidxDatabase.spec.podTemplate.spec.schedulerName",
        "KvidxDatabase.spec.podTemplate.spec.imagePullSecrets",
        "KvidxDatabase.spec.podTemplate.spec.hostAliases",
        "KvidxDatabase.spec.updatePolicy.window.schedule",
        "KvidxBackup.spec.database",
        "KvidxRestore.spec.database",
        "KvidxRestore.spec.from.backup",
        "KvidxRestore.spec.from.time",
        "KvidxRestore.spec.from.position",
        "KvidxRestore.spec.from.latest",
        "KvidxRestore.spec.atEpoch",
      ]
    `)
  })

  it('have defaults that fit', () => {
    for (const { path, schema } of ALL) {
      if (schema.default === undefined || !path.includes('.spec.')) continue
      const kind = KINDS.find(({ kind }) => path.startsWith(`${kind}.`))!
      let node = kind.spec
      for (const step of path.replaceAll('[]', '.[]').split('.').slice(2))
        node = step === '[]' ? node.items : node.properties[step]
      expect(validate(node, schema.default), path).toEqual([])
    }
  })
})
