import { readFileSync } from 'node:fs'
import pino from 'pino'
import type { Registry } from 'prom-client'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { BackupBoard } from '../../../sidecar/backup/board.ts'
import { registerUnseenConsumers } from '../../../sidecar/maintenance/unseen-consumers.ts'
import { registerVolumeMetrics } from '../../../sidecar/maintenance/volume-metrics.ts'
import { ServerMetrics } from '../../../sidecar/server/metrics.ts'
import { ROUTES } from '../../../sidecar/server/routes.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { ERRORS } from '../../../src/common/errors.ts'
import { registerProcessMetrics } from '../../../src/common/process-metrics.ts'
import { registerConditionMetrics } from '../../../src/controllers/database/condition-metrics.ts'
import { KubeMetrics } from '../../../src/kube/metrics.ts'

const ROOT = new URL('../../../', import.meta.url).pathname
const read = (file: string) => readFileSync(`${ROOT}${file}`, 'utf8')
const document = read('docs/monitoring.md')

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly runbook: string }
}
const groups = (parse(read('charts/kvidx-operator/files/alerts.yaml')) as { groups: { name: string; rules: Rule[] }[] })
  .groups
const rules = groups.flatMap(group => group.rules)

const server = new ServerMetrics()
server.observe(() => undefined, { figures: undefined })
new BackupBoard(
  systemClock,
  pino({ level: 'silent' }),
  () => undefined,
  () => undefined,
).register(server.registry)
registerUnseenConsumers(server.registry, () => 0)
registerVolumeMetrics(server.registry, () => ({ size: 1, free: 1, quarantine: { entries: 0, bytes: 0 } }))
const operator = new KubeMetrics()
registerProcessMetrics(operator.registry)
registerConditionMetrics(operator.registry, () => [])

/** Name to type of everything that a registry has. */
function typesOf(registry: Registry): ReadonlyMap<string, string> {
  // both our own metric objects and prom-client's have name and type
  const metrics = registry.getMetricsAsArray() as unknown as readonly { name: string; type?: string }[]
  return new Map(metrics.map(metric => [metric.name, metric.type ?? typeOf(metric)]))
}

function typeOf(metric: object): string {
  return metric.constructor.name.toLowerCase()
}

const registered = new Map([...typesOf(server.registry), ...typesOf(operator.registry)])
/** Of the kubelet and of Prometheus itself. */
const OTHERS = ['up', 'kubelet_volume_stats_available_bytes', 'kubelet_volume_stats_capacity_bytes']

/** Names of metrics in an expression, without the suffixes of histograms. */
function metricsIn(expression: string): readonly string[] {
  const bare = expression.replaceAll(/"[^"]*"/g, '""').replaceAll(/\bby \([^)]*\)/g, '')
  return [...bare.matchAll(/\b(up|[a-z]+(?:_[a-z]+)+)\b(?!\s*\()/g)].map(([, name = '']) =>
    name.replace(/_(bucket|sum|count)$/, ''),
  )
}

describe('the alerts', () => {
  it('use metrics that the programs register, and a few known ones of others', () => {
    expect(rules.length).toBeGreaterThan(15)
    for (const { alert, expr } of rules) {
      const names = metricsIn(expr)
      expect([alert, names.length]).not.toEqual([alert, 0])
      for (const name of names)
        expect([alert, name, registered.has(name) || OTHERS.includes(name)]).toEqual([alert, name, true])
    }
  })

  it('use operations and error codes that exist', () => {
    const operations = new Set(ROUTES.map(route => route.name))
    for (const { alert, expr } of rules) {
      for (const [, list = ''] of expr.matchAll(/operation=~?"([^"]*)"/g))
        for (const name of list.split('|')) expect([alert, name, operations.has(name)]).toEqual([alert, name, true])
      if (expr.includes('kvidx_errors_total'))
        for (const [, list = ''] of expr.matchAll(/code=~?"([^"]*)"/g))
          for (const code of list.split('|'))
            expect([alert, code, Object.hasOwn(ERRORS, code)]).toEqual([alert, code, true])
    }
  })

  it('have names of their own, a severity, a summary and a runbook that exists', () => {
    expect(new Set(rules.map(rule => rule.alert)).size).toBe(rules.length)
    for (const { alert, labels, annotations } of rules) {
      expect(['critical', 'warning', 'info'], alert).toContain(labels.severity)
      expect(annotations.summary.length, alert).toBeGreaterThan(10)
      const [file = '', anchor = ''] = annotations.runbook.split('#')
      const anchors = [...read(file).matchAll(/^## (.+)$/gm)].map(([, title = '']) =>
        title.toLowerCase().replaceAll(' ', '-'),
      )
      expect(anchors, alert).toContain(anchor)
    }
  })

  it('would be found out: a metric that nobody registers', () => {
    expect(metricsIn('rate(kvidx_made_up_total{code="no_space"}[5m]) > 0')).toEqual(['kvidx_made_up_total'])
    expect(registered.has('kvidx_made_up_total')).toBe(false)
    expect(metricsIn('sum by (queue, le) (rate(kvidx_x_seconds_bucket[1m]))')).toEqual(['kvidx_x_seconds'])
  })
})

describe('the dashboard', () => {
  const dashboard = JSON.parse(read('charts/kvidx-operator/files/dashboard.json')) as {
    readonly panels: readonly { id: number; type: string; title: string; targets?: readonly { expr: string }[] }[]
    readonly templating: { readonly list: readonly { name: string; query?: string | { query: string } }[] }
  }
  const targets = dashboard.panels.flatMap(({ title, targets }) => (targets ?? []).map(({ expr }) => ({ title, expr })))

  it('uses metrics that the programs register, and variables that it has', () => {
    expect(targets.length).toBeGreaterThan(20)
    const queries = dashboard.templating.list.map(({ name, query = '' }) => ({
      title: name,
      expr: (typeof query === 'string' ? query : query.query).replace('label_values', ''),
    }))
    const variables = new Set([...dashboard.templating.list.map(({ name }) => name), '__rate_interval'])
    for (const { title, expr } of [...targets, ...queries]) {
      for (const name of metricsIn(expr.replaceAll(/, (namespace|database)\)/g, ')')))
        expect([title, name, registered.has(name)]).toEqual([title, name, true])
      for (const [, name = ''] of expr.matchAll(/\$(\w+)/g))
        expect([title, name, variables.has(name)]).toEqual([title, name, true])
    }
    for (const { title, expr } of targets) expect([title, metricsIn(expr).length]).not.toEqual([title, 0])
  })

  it('has panels with ids and titles of their own', () => {
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length)
    expect(new Set(dashboard.panels.map(({ title }) => title)).size).toBe(dashboard.panels.length)
  })

  it('shows what an alert of a database is about', () => {
    const shown = new Set(targets.flatMap(({ expr }) => metricsIn(expr)))
    for (const name of ['kvidx_ready', 'kvidx_volume_days_until_full', 'kvidx_wal_bytes', 'kvidx_backup_rpo_seconds'])
      expect([name, shown.has(name)]).toEqual([name, true])
  })
})

describe('docs/monitoring.md', () => {
  const rows = document.split('\n').filter(line => line.startsWith('| `kvidx_'))
  const documented = new Map(
    rows.flatMap(line => {
      const [, names = '', type = ''] = line.split('|').map(cell => cell.trim())
      return [...names.matchAll(/`(kvidx_\w+)`/g)].map(([, name]) => [name as string, type] as const)
    }),
  )

  it('has every metric of ours, and none that does not exist', () => {
    const ours = [...registered.keys()].filter(name => name.startsWith('kvidx_'))
    expect([...documented.keys()].toSorted()).toEqual(ours.toSorted())
  })

  it('says the type that each has', () => {
    for (const [name, type] of documented) expect([name, registered.get(name)]).toEqual([name, type])
  })
})
