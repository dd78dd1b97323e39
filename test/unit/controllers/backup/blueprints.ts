import { withDefaults } from '../../../../src/api/v1alpha1/defaults.ts'
import type { KvidxDatabase } from '../../../../src/api/v1alpha1/kvidx-database.ts'
import { type Blueprint, blueprintOf } from '../../../../src/controllers/database/objects/blueprint.ts'

export type Spec = KvidxDatabase['spec']

/** A volume, three schedules, continuous. */
export const TO_VOLUME: Spec = {
  storage: { size: '10Gi', storageClassName: 'fast' },
  backup: {
    destination: { volume: { size: '20Gi', storageClassName: 'slow' } },
    timeZone: 'Europe/Berlin',
    schedules: [
      { name: 'daily', schedule: '0 2 * * *', verify: true },
      { name: 'hourly', schedule: '15 * * * *', type: 'Incremental', timeout: '30m', startingDeadline: '1h' },
      { name: 'disk', schedule: '30 3 * * 0', type: 'VolumeSnapshot', suspend: true },
    ],
    continuous: { enabled: true },
  },
}

/** A bucket with everything that can be set. */
export const TO_BUCKET: Spec = {
  storage: { size: '1Gi' },
  security: {
    tls: { secretRef: { name: 'orders-tls' } },
    auth: { secretRef: { name: 'tokens' } },
    encryption: { secretRef: { name: 'keys' }, keyId: 'k1' },
  },
  podTemplate: { spec: { imagePullSecrets: [{ name: 'pull' }] } },
  backup: {
    destination: {
      s3: { bucket: 'backups', credentialsSecretRef: { name: 's3' }, caSecretRef: { name: 'ca' } },
    },
    schedules: [{ name: 'daily', schedule: '@daily' }],
    job: {
      nodeSelector: { disk: 'ssd' },
      tolerations: [{ key: 'backup', operator: 'Exists' }],
      priorityClassName: 'low',
      resources: { limits: { memory: '2Gi' } },
      successfulHistory: 2,
      failedHistory: 5,
    },
  },
}

export function databaseOf(spec: Spec, name = 'orders', namespace = 'shop'): KvidxDatabase {
  return {
    apiVersion: 'kvidx.io/v1alpha1',
    kind: 'KvidxDatabase',
    metadata: { name, namespace, uid: 'd3f1c0de-0000-4000-8000-000000000001', generation: 1 },
    spec,
  }
}

export function blueprint(spec: Spec, name = 'orders', namespace = 'shop'): Blueprint {
  return blueprintOf(databaseOf(spec, name, namespace), withDefaults(spec), 'kvidx:1.0.0', 1)
}
