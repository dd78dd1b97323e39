import { describe, expect, it } from 'vitest'
import type { KvidxDatabaseSpec } from '../../../src/api/v1alpha1/database-spec.ts'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import {
  parseSidecarConfig,
  renderSidecarConfig,
  sidecarConfig,
  staticChecksum,
} from '../../../src/api/v1alpha1/sidecar-config.ts'

const config = (spec: KvidxDatabaseSpec, expectedLineage?: string) =>
  sidecarConfig({
    namespace: 'shop',
    name: 'orders',
    spec: withDefaults(spec),
    ...(expectedLineage === undefined ? {} : { expectedLineage }),
  })

const SMALL: KvidxDatabaseSpec = { storage: { size: '10Gi' } }

const LARGE: KvidxDatabaseSpec = {
  engine: 'SQLite',
  storage: { size: '10Gi' },
  tuning: { cacheSize: '256Mi', mmapSize: '1Gi', busyTimeout: '10s', pageSize: '8Ki' },
  changeLog: { maxSize: '1Gi' },
  security: { encryption: { secretRef: { name: 'keys' }, keyId: 'k1' }, tls: { secretRef: { name: 'tls' } } },
  bootstrap: { restore: { source: { database: 'old', s3: { bucket: 'archive' } }, time: '2026-03-01T14:03:00Z' } },
  maintenance: { vacuum: { window: { schedule: '0 3 * * 0' } }, check: { enabled: false } },
  backup: {
    destination: {
      s3: { bucket: 'backups', prefix: 'prod', credentialsSecretRef: { name: 's3' }, caSecretRef: { name: 'ca' } },
    },
    schedules: [
      { name: 'daily', schedule: '0 2 * * *' },
      { name: 'hourly', schedule: '15 * * * *', type: 'Incremental' },
    ],
    continuous: { enabled: true },
    bandwidthLimit: '50Mi',
    drill: { schedule: '@weekly' },
  },
}

describe("the sidecar's configuration", () => {
  it('has bytes and milliseconds where the manifest has quantities and durations', () => {
    const { static: fixed, dynamic } = config(LARGE)
    expect(fixed).toEqual({
      namespace: 'shop',
      name: 'orders',
      engine: 'SQLite',
      tuning: {
        syncMode: 'Full',
        cacheSize: 268_435_456,
        journalMode: 'WAL',
        busyTimeout: 10_000,
        mmapSize: 1_073_741_824,
        pageSize: 8192,
      },
      autoCache: false,
      limits: {
        recordBytes: 67_108_864,
        atomicBytes: 67_108_864,
        atomicRecords: 100_000,
        bufferedBytes: 268_435_456,
        connections: 4096,
        streams: 16,
        followers: 256,
        idleTimeout: 30_000,
      },
      security: { tls: true, socket: true },
    })
    expect(dynamic.changeLog).toEqual({ maxSize: { bytes: 1_073_741_824 }, idleSize: { percent: 1 } })
    expect(dynamic.maintenance.check).toBeUndefined()
    expect(dynamic.maintenance.vacuum).toEqual({
      interval: 60_000,
      fragmentation: 0.3,
      window: { schedule: '0 3 * * 0', duration: 7_200_000, timeZone: 'Etc/UTC' },
    })
    expect(dynamic.bootstrap).toEqual({
      restore: {
        source: { namespace: 'shop', database: 'old', s3: { bucket: 'archive', region: 'us-east-1' } },
        time: '2026-03-01T14:03:00Z',
      },
    })
    expect(dynamic.backup).toMatchObject({
      destination: {
        s3: {
          bucket: 'backups',
          prefix: 'prod',
          region: 'us-east-1',
          credentialsDirectory: '/etc/kvidx/s3-credentials',
          caFile: '/etc/kvidx/s3-ca/ca.crt',
        },
      },
      schedules: [
        { name: 'daily', type: 'Full', verify: true, timeout: 21_600_000 },
        { name: 'hourly', type: 'Incremental', verify: false },
      ],
      retention: {
        daily: 7,
        weekly: 4,
        monthly: 12,
        last: 3,
        window: 604_800_000,
        volumeSnapshots: 7,
        managedBy: 'Kvidx',
      },
      continuous: { enabled: true, interval: 1000, segmentSize: 1_048_576 },
      bandwidthLimit: 52_428_800,
      encryption: { keyId: 'k1', directory: '/etc/kvidx/encryption' },
      drill: { schedule: '@weekly', suspend: false },
    })
  })

  it('gives each engine the settings that it has, and no others', () => {
    expect(config(SMALL).static).toMatchObject({ autoCache: true })
    expect(config(SMALL).static.tuning).toEqual({
      syncMode: 'Full',
      journalMode: 'WAL',
      busyTimeout: 30_000,
      mmapSize: 0,
      pageSize: 4096,
    })
    expect(config({ ...SMALL, engine: 'LMDB' }).static.tuning).toEqual({
      syncMode: 'Full',
      mapSize: 1_073_741_824,
      mapSizeLimit: 17_592_186_044_416,
    })
    expect(config({ ...SMALL, engine: 'RocksDB' }).static.tuning).toEqual({ syncMode: 'Full', compression: 'LZ4' })
  })

  it('is read back as it was written, and the same spec gives the same bytes', () => {
    for (const spec of [SMALL, LARGE]) {
      const document = config(spec, '0197c2f0-7a3c-7d52-8d3e-0a5b4c3d2e1f')
      const text = renderSidecarConfig(document)
      expect(parseSidecarConfig(text, 'config.json')).toEqual(document)
      expect(renderSidecarConfig(config(structuredClone(spec), '0197c2f0-7a3c-7d52-8d3e-0a5b4c3d2e1f'))).toBe(text)
    }
  })

  it('restarts the pod for what the engine is opened with, and for nothing else', () => {
    const checksum = (spec: KvidxDatabaseSpec, lineage?: string) => staticChecksum(config(spec, lineage).static)
    const base = checksum(SMALL)
    expect(checksum({ ...SMALL, tuning: { cacheSize: '64Mi' } })).not.toBe(base)
    expect(checksum({ ...SMALL, tuning: { syncMode: 'Normal' } })).not.toBe(base)
    expect(checksum({ ...SMALL, security: { socket: false } })).not.toBe(base)
    expect(checksum(SMALL, 'known-lineage')).toBe(base)
    expect(checksum({ ...SMALL, monitoring: { logLevel: 'Debug' }, changeLog: { maxSize: '5%' } })).toBe(base)
    expect(checksum({ ...SMALL, backup: LARGE.backup!, maintenance: LARGE.maintenance! })).toBe(base)
    expect(checksum({ ...SMALL, storage: { size: '20Gi' } })).toBe(base)
    const grown = (size: string) => checksum({ engine: 'LMDB', storage: { size } })
    expect(grown('20Gi')).toBe(grown('10Gi'))
    // the order in which members were written does not count
    const { static: fixed } = config(SMALL)
    expect(staticChecksum(Object.fromEntries(Object.entries(fixed).reverse()) as typeof fixed)).toBe(base)
  })

  it('is refused with file and field when it is not what it should be', () => {
    expect(() => parseSidecarConfig('{', '/etc/kvidx/config.json')).toThrow(/^\/etc\/kvidx\/config\.json is not JSON/)
    const text = renderSidecarConfig(config(SMALL)).replace('"engine": "SQLite"', '"engine": "sqlite"')
    expect(() => parseSidecarConfig(text, 'c.json')).toThrow(
      "c.json: static.engine: 'sqlite' is not one of SQLite, LMDB, RocksDB",
    )
    const extra = renderSidecarConfig(config(SMALL)).replace('"audit"', '"audti"')
    expect(() => parseSidecarConfig(extra, 'c.json')).toThrow(
      "dynamic.audti: there is no such field; did you mean 'audit'?",
    )
  })
})
