import { readdir, readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { parse } from 'yaml'
import { KINDS } from '../../../src/api/kinds.ts'
import { KVIDX_DATABASE } from '../../../src/api/v1alpha1/kvidx-database.ts'
import { KubeApiError } from '../../../src/kube/api-error.ts'
import type { KubeClient } from '../../../src/kube/client.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import { CUSTOM_RESOURCE_DEFINITIONS } from '../../../src/kube/resources.ts'
import { boundaryCases } from '../../support/api-boundaries.ts'
import { RULE_CASES } from '../../support/api-cases.ts'
import { type ApiCase, database } from '../../support/api-objects.ts'
import { access, eventually, freshNamespace } from '../kube/access.ts'

const { kubeconfig, missing } = inject('controlPlane')
const CRDS = new URL('../../../crds/', import.meta.url)

interface Definition extends KubeObject {
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] }
}

/** What the server said to a case: undefined when it took the object. */
interface Verdict {
  readonly apiCase: ApiCase
  readonly refusal?: KubeApiError
}

describe.skipIf(missing)('the custom resource definitions on a real API server', () => {
  let api: KubeClient
  let namespace: string

  beforeAll(async () => {
    ;({ api } = await access(kubeconfig ?? ''))
    namespace = await freshNamespace(api, 'api')
    for (const file of await readdir(CRDS)) {
      const definition = parse(await readFile(new URL(file, CRDS), 'utf8')) as KubeObject
      await api.apply(CUSTOM_RESOURCE_DEFINITIONS, definition)
      await eventually(
        () => api.get<Definition>(CUSTOM_RESOURCE_DEFINITIONS, { name: definition.metadata.name }),
        ({ status }) =>
          status?.conditions?.some(({ type, status }) => type === 'Established' && status === 'True') ?? false,
      )
    }
    // established is not yet served
    for (const kind of KINDS)
      await eventually(
        () => api.list(kind, { namespace }).catch(() => undefined),
        list => list !== undefined,
      )
  })

  afterAll(async () => {
    await api?.close()
  })

  const asObject = (value: unknown): KubeObject => {
    const object = structuredClone(value) as { metadata: { namespace?: string } }
    object.metadata.namespace = namespace
    return object as unknown as KubeObject
  }

  async function ask(apiCase: ApiCase, index: number): Promise<Verdict> {
    const { kind, old } = apiCase
    const object = asObject(apiCase.object)
    const strict = { dryRun: true, fieldValidation: 'Strict' } as const
    try {
      if (old === undefined) await api.create(kind, object, strict)
      else {
        // a name of its own: cases run side by side
        const name = `case-${index}`
        const before: KubeObject = await api.create<KubeObject>(kind, {
          ...asObject(old),
          metadata: { name, namespace },
        })
        const { resourceVersion } = before.metadata
        await api.update(
          kind,
          { ...object, metadata: { name, namespace, ...(resourceVersion ? { resourceVersion } : {}) } },
          strict,
        )
      }
      return { apiCase }
    } catch (error) {
      if (error instanceof KubeApiError) return { apiCase, refusal: error }
      throw error
    }
  }

  async function askAll(cases: readonly ApiCase[]): Promise<readonly Verdict[]> {
    const verdicts: Verdict[] = []
    for (let at = 0; at < cases.length; at += 16) {
      verdicts.push(...(await Promise.all(cases.slice(at, at + 16).map((apiCase, index) => ask(apiCase, at + index)))))
    }
    return verdicts
  }

  it('take and refuse what the check of this process takes and refuses, naming the same field', async () => {
    const verdicts = await askAll([...RULE_CASES, ...KINDS.flatMap(boundaryCases)])
    const wrong = verdicts.flatMap(({ apiCase: { title, field }, refusal }) => {
      if (field === undefined) return refusal ? [`${title}, but: ${refusal.message}`] : []
      if (refusal === undefined) return [`${title}, but it was taken`]
      if (![400, 422].includes(refusal.status)) return [`${title}, but: ${refusal.message}`]
      // rules about metadata stand at the root, and unreadable types are refused before any field is looked at
      const named = refusal.details.causes?.map(cause => cause.field) ?? []
      if (field.startsWith('metadata') || named.includes(field)) return []
      return [`${title}: expected ${field}, not ${named.join(', ')}: ${refusal.message}`]
    })
    expect(wrong).toEqual([])
    expect(verdicts.length).toBeGreaterThan(600)
  }, 120_000)

  it('say what is allowed in their own words', async () => {
    const verdicts = await askAll(RULE_CASES.filter(({ field, message }) => field !== undefined && message !== ''))
    const silent = verdicts.filter(({ apiCase: { message = '' }, refusal }) => {
      // a list that is keyed, a length, a pattern: the server has its own words for them
      if (['twice', 'required', '12', 'schedule'].includes(message)) return false
      return !refusal?.message.includes(message)
    })
    expect(silent.map(({ apiCase, refusal }) => `${apiCase.title}: ${refusal?.message}`)).toEqual([])
  }, 60_000)

  it('refuse fields that do not exist', async () => {
    const misspelt = asObject(database({ tunning: {} }))
    await expect(api.create(KVIDX_DATABASE, misspelt, { dryRun: true, fieldValidation: 'Strict' })).rejects.toThrow(
      'unknown field "spec.tunning"',
    )
  })

  it('fill in the defaults that this process fills in', async () => {
    const { applyDefaults } = await import('../../../src/api/defaults.ts')
    for (const kind of KINDS) {
      const { object } = RULE_CASES.find(apiCase => apiCase.kind === kind && apiCase.field === undefined)!
      const created = await api.create<KubeObject & { spec?: unknown }>(kind, asObject(object), { dryRun: true })
      expect(created.spec).toEqual(applyDefaults(kind.spec, object.spec))
    }
  })

  it('keep parts of the pod that they do not know', async () => {
    const spec = {
      podTemplate: { spec: { containers: [{ name: 'app', image: 'a', ports: [{ containerPort: 80 }] }] } },
    }
    const created = await api.create<KubeObject & { spec?: typeof spec }>(KVIDX_DATABASE, asObject(database(spec)), {
      dryRun: true,
    })
    expect(created.spec?.podTemplate.spec.containers[0]).toEqual({
      name: 'app',
      image: 'a',
      ports: [{ containerPort: 80 }],
    })
  })

  it('have the status and scale subresources', async () => {
    const created = await api.create(KVIDX_DATABASE, asObject(database({}, 'scaled')))
    const status = { observedGeneration: 1, replicas: 1, selector: 'kvidx.io/database=scaled', data: { keys: 45 } }
    const updated = await api.patch<KubeObject & { status?: typeof status }>(
      KVIDX_DATABASE,
      created.metadata as never,
      { status },
      { subresource: 'status' },
    )
    expect(updated.status).toEqual(status)
    const scale = await api.raw(`/apis/kvidx.io/v1alpha1/namespaces/${namespace}/kvidxdatabases/scaled/scale`)
    expect(JSON.parse(scale)).toMatchObject({
      spec: { replicas: 1 },
      status: { replicas: 1, selector: 'kvidx.io/database=scaled' },
    })
  })
})
