import { Gauge, type Registry } from 'prom-client'
import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { KubeObject } from '../../kube/object.ts'

/** What `status.conditions` of every database says, for alerts: one series for each condition that there is. */
export function registerConditionMetrics(
  registry: Registry,
  databases: () => Iterable<KvidxDatabase & KubeObject>,
): void {
  new Gauge({
    name: 'kvidx_database_condition',
    help: '1 for the status that a condition of a database has: True, False or Unknown',
    labelNames: ['namespace', 'database', 'condition', 'status'],
    registers: [registry],
    collect() {
      this.reset()
      for (const { metadata, status } of databases())
        for (const { type, status: value } of status?.conditions ?? [])
          this.set({ namespace: metadata.namespace ?? '', database: metadata.name, condition: type, status: value }, 1)
    },
  })
}
