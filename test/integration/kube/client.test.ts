import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { parse } from 'yaml'
import {
  isAlreadyExists,
  isConflict,
  isExpired,
  isNotFound,
  KubeApiError,
  undefinedIfMissing,
} from '../../../src/kube/api-error.ts'
import { KubeClient } from '../../../src/kube/client.ts'
import { Connection } from '../../../src/kube/connection.ts'
import type { KubeMetrics } from '../../../src/kube/metrics.ts'
import type { KubeObject, Resource } from '../../../src/kube/object.ts'
import {
  CONFIG_MAPS,
  CUSTOM_RESOURCE_DEFINITIONS,
  SERVICE_ACCOUNTS,
  STATEFUL_SETS,
} from '../../../src/kube/resources.ts'
import { ServiceAccountCredentials } from '../../../src/kube/service-account.ts'
import { access, type ConfigMap, configMap, eventually, freshNamespace, metric } from './access.ts'

const { kubeconfig, missing } = inject('controlPlane')

interface Widget extends KubeObject {
  readonly spec?: { readonly size?: number; readonly color?: string }
  readonly status?: { readonly phase?: string; readonly conditions?: unknown }
}

const WIDGETS: Resource = {
  group: 'client.test.kvidx.io',
  version: 'v1',
  plural: 'widgets',
  kind: 'Widget',
  namespaced: true,
}

describe.skipIf(missing)('the client against a real API server', () => {
  let api: KubeClient
  let metrics: KubeMetrics
  let namespace: string
  const ref = (name: string) => ({ namespace, name })

  beforeAll(async () => {
    ;({ api, metrics } = await access(kubeconfig ?? ''))
    namespace = await freshNamespace(api, 'client')
    await api.apply(CUSTOM_RESOURCE_DEFINITIONS, {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'widgets.client.test.kvidx.io' },
      spec: {
        group: WIDGETS.group,
        scope: 'Namespaced',
        names: { plural: 'widgets', singular: 'widget', kind: 'Widget' },
        versions: [
          {
            name: 'v1',
            served: true,
            storage: true,
            subresources: { status: {} },
            schema: {
              openAPIV3Schema: {
                type: 'object',
                properties: {
                  spec: {
                    type: 'object',
                    properties: { size: { type: 'integer', maximum: 10 }, color: { type: 'string' } },
                  },
                  status: { type: 'object', properties: { phase: { type: 'string' } } },
                },
              },
            },
          },
        ],
      },
    } as KubeObject)
    await eventually(
      () => undefinedIfMissing(api.list(WIDGETS, { namespace })),
      list => list !== undefined,
    )
  })

  afterAll(async () => {
    await api.delete(CUSTOM_RESOURCE_DEFINITIONS, { name: 'widgets.client.test.kvidx.io' })
    await api.close()
  })

  it('creates, reads, replaces and deletes, and says precisely what is wrong', async () => {
    const created = await api.create(CONFIG_MAPS, configMap(namespace, 'crud', { a: 'grün 🌍' }))
    expect(created.data).toEqual({ a: 'grün 🌍' })
    expect(created.metadata).not.toHaveProperty('managedFields')
    const again = await api.create(CONFIG_MAPS, configMap(namespace, 'crud', {})).catch(error => error)
    expect(isAlreadyExists(again)).toBe(true)
    const updated = await api.update<ConfigMap>(CONFIG_MAPS, { ...created, data: { a: '2' } })
    const late = await api.update<ConfigMap>(CONFIG_MAPS, { ...created, data: { a: '3' } }).catch(error => error)
    expect(isConflict(late)).toBe(true)
    expect((await api.get<ConfigMap>(CONFIG_MAPS, ref('crud'))).data).toEqual({ a: '2' })
    const foreign = await api.delete(CONFIG_MAPS, ref('crud'), { uid: 'another' }).catch(error => error)
    expect(isConflict(foreign)).toBe(true)
    const stale = await api
      .delete(CONFIG_MAPS, ref('crud'), { resourceVersion: created.metadata.resourceVersion ?? '' })
      .catch(error => error)
    expect(isConflict(stale)).toBe(true)
    await api.delete(CONFIG_MAPS, ref('crud'), { uid: updated.metadata.uid ?? '' })
    const gone = await api.get(CONFIG_MAPS, ref('crud')).catch(error => error)
    expect(isNotFound(gone)).toBe(true)
    expect(gone).toMatchObject({ status: 404, reason: 'NotFound', details: { name: 'crud', kind: 'configmaps' } })
    expect(gone.message).toContain(`get configmaps ${namespace}/crud`)
    expect(await undefinedIfMissing(api.get(CONFIG_MAPS, ref('crud')))).toBeUndefined()
  })

  it('applies: only the fields named are owned, those no longer named are released, and others are taken over by force', async () => {
    const first = await api.apply<ConfigMap>(CONFIG_MAPS, configMap(namespace, 'applied', { ours: '1', extra: '1' }))
    await api.patch(CONFIG_MAPS, ref('applied'), { data: { theirs: '1' } })
    const second = await api.apply<ConfigMap>(CONFIG_MAPS, configMap(namespace, 'applied', { ours: '2' }))
    expect(second.data).toEqual({ ours: '2', theirs: '1' })
    expect(second.metadata.uid).toBe(first.metadata.uid)
    const same = await api.apply<ConfigMap>(CONFIG_MAPS, configMap(namespace, 'applied', { ours: '2' }))
    expect(same.metadata.resourceVersion).toBe(second.metadata.resourceVersion)
    const other = { fieldManager: 'somebody', force: false }
    const refused = await api
      .apply(CONFIG_MAPS, configMap(namespace, 'applied', { ours: '3' }), other)
      .catch(error => error)
    expect(isConflict(refused)).toBe(true)
    expect(refused.details.causes[0]).toMatchObject({ reason: 'FieldManagerConflict', field: '.data.ours' })
    await api.apply(CONFIG_MAPS, configMap(namespace, 'applied', { ours: '3' }), { fieldManager: 'somebody' })
    const back = await api.apply<ConfigMap>(CONFIG_MAPS, configMap(namespace, 'applied', { ours: '4' }))
    expect(back.data?.ours).toBe('4')
  })

  it('stores nothing on a dry run', async () => {
    const dry = await api.apply<ConfigMap>(CONFIG_MAPS, configMap(namespace, 'dry', { a: '1' }), { dryRun: true })
    expect(dry.data).toEqual({ a: '1' })
    expect(await undefinedIfMissing(api.get(CONFIG_MAPS, ref('dry')))).toBeUndefined()
  })

  it('writes the status apart from the spec', async () => {
    const widget: Widget = {
      apiVersion: 'client.test.kvidx.io/v1',
      kind: 'Widget',
      metadata: ref('w'),
      spec: { size: 3 },
    }
    await api.apply(WIDGETS, widget)
    const status = { apiVersion: widget.apiVersion, kind: widget.kind, metadata: ref('w') }
    await api.apply(WIDGETS, { ...status, status: { phase: 'Ready' } } as Widget, { subresource: 'status' })
    const read = await api.get<Widget>(WIDGETS, ref('w'))
    expect(read).toMatchObject({ spec: { size: 3 }, status: { phase: 'Ready' }, metadata: { generation: 1 } })
    await api.patch(WIDGETS, ref('w'), { status: { phase: 'Gone' } }, { subresource: 'status' })
    await api.patch(WIDGETS, ref('w'), [{ op: 'replace', path: '/spec/size', value: 4 }], { type: 'json' })
    expect(await api.get<Widget>(WIDGETS, ref('w'))).toMatchObject({ spec: { size: 4 }, status: { phase: 'Gone' } })
    await api.update(
      WIDGETS,
      { ...(await api.get<Widget>(WIDGETS, ref('w'))), status: { phase: 'Put' } },
      { subresource: 'status' },
    )
    expect((await api.get<Widget>(WIDGETS, ref('w'))).status?.phase).toBe('Put')
    expect(
      await metric(metrics, 'kvidx_operator_api_requests_total{verb="apply",resource="widgets/status",code="200"}'),
    ).toBe(1)
  })

  it('names the field that is not valid', async () => {
    const widget: Widget = {
      apiVersion: 'client.test.kvidx.io/v1',
      kind: 'Widget',
      metadata: ref('bad'),
      spec: { size: 11 },
    }
    const error = await api.create(WIDGETS, widget).catch(error => error)
    expect(error).toMatchObject({ status: 422, reason: 'Invalid', details: { causes: [{ field: 'spec.size' }] } })
    const unknown = { ...widget, spec: { size: 1, colour: 'red' } }
    const strict = await api.create(WIDGETS, unknown, { fieldValidation: 'Strict' }).catch(error => error)
    expect(strict).toMatchObject({ status: 400, reason: 'BadRequest' })
    expect(strict.message).toContain('spec.colour')
  })

  it('deletes an owner without what it owns', async () => {
    const set: KubeObject = {
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: ref('set'),
      spec: {
        replicas: 0,
        serviceName: 'set',
        selector: { matchLabels: { app: 'set' } },
        template: { metadata: { labels: { app: 'set' } }, spec: { containers: [{ name: 'a', image: 'none' }] } },
      },
    } as KubeObject
    const { metadata } = await api.create(STATEFUL_SETS, set)
    const owned = configMap(namespace, 'owned', {})
    const owner = { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'set', uid: metadata.uid ?? '' }
    await api.create(CONFIG_MAPS, { ...owned, metadata: { ...owned.metadata, ownerReferences: [owner] } })
    await api.delete(STATEFUL_SETS, ref('set'), { propagation: 'Orphan' })
    await eventually(
      () => undefinedIfMissing(api.get(STATEFUL_SETS, ref('set'))),
      found => found === undefined,
      30_000,
    )
    expect((await api.get(CONFIG_MAPS, ref('owned'))).metadata.ownerReferences).toBeUndefined()
  })

  it('lists in pages, of which every object says its kind, by label and by field', async () => {
    await Promise.all(
      Array.from({ length: 45 }, (_, n) =>
        api.create(CONFIG_MAPS, configMap(namespace, `page-${n}`, {}, { page: String(n % 3) })),
      ),
    )
    const before = await metric(
      metrics,
      'kvidx_operator_api_requests_total{verb="list",resource="configmaps",code="200"}',
    )
    const all = await api.list(CONFIG_MAPS, { namespace, labelSelector: 'page', pageSize: 10 })
    expect(new Set(all.items.map(item => item.metadata.name)).size).toBe(45)
    expect(all.items.every(item => item.kind === 'ConfigMap' && item.apiVersion === 'v1')).toBe(true)
    expect(all.items.every(item => !('managedFields' in item.metadata))).toBe(true)
    const after = await metric(
      metrics,
      'kvidx_operator_api_requests_total{verb="list",resource="configmaps",code="200"}',
    )
    expect(after - before).toBe(5)
    expect((await api.list(CONFIG_MAPS, { namespace, labelSelector: 'page=1' })).items.length).toBe(15)
    expect((await api.list(CONFIG_MAPS, { namespace, fieldSelector: 'metadata.name=page-7' })).items.length).toBe(1)
  })

  it('watches from a version on, and ends when it is told to', async () => {
    const { resourceVersion } = await api.list(CONFIG_MAPS, { namespace })
    const stop = new AbortController()
    const seen: string[] = []
    const watching = (async () => {
      for await (const event of api.watch<ConfigMap>(CONFIG_MAPS, {
        namespace,
        resourceVersion,
        signal: stop.signal,
      })) {
        if (event.type === 'BOOKMARK') continue
        expect(event.object.metadata).not.toHaveProperty('managedFields')
        seen.push(`${event.type} ${event.object.metadata.name} ${event.object.data?.a}`)
      }
    })()
    await api.create(CONFIG_MAPS, configMap(namespace, 'watched', { a: 'ä'.repeat(50_000) }))
    await api.patch(CONFIG_MAPS, ref('watched'), { data: { a: '2' } })
    await api.delete(CONFIG_MAPS, ref('watched'))
    await eventually(
      () => seen.length,
      length => length >= 3,
    )
    expect(seen).toEqual([`ADDED watched ${'ä'.repeat(50_000)}`, 'MODIFIED watched 2', 'DELETED watched 2'])
    stop.abort(new Error('enough'))
    await expect(watching).rejects.toThrow('enough')
  })

  it('ends a watch cleanly when the server ends it', async () => {
    const { resourceVersion } = await api.list(CONFIG_MAPS, { namespace })
    const began = Date.now()
    for await (const _ of api.watch(CONFIG_MAPS, { namespace, resourceVersion, timeoutSeconds: 1 })) {
      // nothing but bookmarks
    }
    expect(Date.now() - began).toBeLessThan(5_000)
  })

  it('answers 410 to a watch from a version before the server can remember', async () => {
    const events = api.watch(WIDGETS, { namespace, resourceVersion: '1' })
    const error = await events.next().catch((error: unknown) => error)
    expect(isExpired(error)).toBe(true)
  })

  it('does not send a call whose signal was aborted before', async () => {
    const before = await metrics.registry.metrics()
    await expect(api.get(CONFIG_MAPS, ref('page-1'), { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow(
      'no',
    )
    expect(await metrics.registry.metrics()).toBe(before)
  })

  it('enters as a service account, and follows its token when the file is renewed', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'kube-account-'))
    const config = parse(await readFile(kubeconfig ?? '', 'utf8'))
    const { server, ...cluster } = config.clusters[0].cluster
    const authority = cluster['certificate-authority-data']
    const { hostname, port } = new URL(server)
    const ca = authority ? Buffer.from(authority, 'base64') : await readFile(cluster['certificate-authority'])
    const write = (token: string) => writeFile(join(directory, 'token'), `${token}\n`)
    await Promise.all([
      writeFile(join(directory, 'ca.crt'), ca),
      writeFile(join(directory, 'namespace'), namespace),
      write('not a token'),
    ])
    const credentials = new ServiceAccountCredentials(hostname, Number(port), directory)
    const account = new KubeClient({ connection: new Connection(credentials) })
    await expect(account.get(CONFIG_MAPS, ref('page-1'))).rejects.toMatchObject({ status: 401 })
    interface TokenRequest extends KubeObject {
      readonly status?: { readonly token: string }
    }
    const request: TokenRequest = {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      metadata: ref('default'),
    }
    const answer = await api.create(SERVICE_ACCOUNTS, request, { subresource: 'token' })
    await write(answer.status?.token ?? '')
    // it is known now, but may do nothing
    await expect(account.get(CONFIG_MAPS, ref('page-1'))).rejects.toMatchObject({
      status: 403,
      message: expect.stringContaining(`system:serviceaccount:${namespace}:default`),
    })
    await account.close()
    await rm(directory, { recursive: true })
  })

  it('reads plain paths', async () => {
    expect(await api.raw('/readyz')).toBe('ok')
    expect(JSON.parse(await api.raw('/version')).major).toBe('1')
    await expect(api.raw('/nowhere')).rejects.toBeInstanceOf(KubeApiError)
  })
})
