import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { registerProcessMetrics } from '../../../src/common/process-metrics.ts'
import { registerConditionMetrics } from '../../../src/controllers/database/condition-metrics.ts'
import { KubeMetrics } from '../../../src/kube/metrics.ts'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'

const RULES = new URL('../../../charts/kvidx-operator/files/alerts.yaml', import.meta.url).pathname
const TESTS = ['alerts.test.yaml', 'alerts-of-days.test.yaml']

function promtool(args: readonly string[], input?: string) {
  const { status, stdout, stderr, error } = spawnSync('promtool', args, { encoding: 'utf8', ...(input && { input }) })
  return { error, status, out: `${stdout}${stderr}` }
}

const missing = promtool(['--version']).error !== undefined
if (missing) {
  const message = 'promtool is not in PATH, so metrics and alerts are NOT tested with it (Debian: package prometheus)'
  if (process.env.CI) throw new Error(message)
  console.warn(`\n*** ${message} ***\n`)
}

describe.skipIf(missing)('promtool', () => {
  test('finds nothing wrong with the metrics of a database under use', async () => {
    const { sidecar } = await sidecarHere({ spec: { backup: undefined } })
    const data = await sidecar.serving
    await fetch(`${data}/v1/records/1`, { method: 'PUT', body: 'abc' })
    for (const path of ['records/1', 'records/x', 'count', 'records']) await (await fetch(`${data}/v1/${path}`)).text()
    for (const task of ['checkpoint', 'check']) await fetch(`${data}/v1/admin/${task}`, { method: 'POST' })
    const metrics = await (await fetch(`${sidecar.opsAddress}/metrics`)).text()
    for (const name of [
      'kvidx_volume_free_bytes',
      'kvidx_operation_duration_seconds_bucket',
      'kvidx_task_last_duration_seconds',
    ])
      expect(metrics).toMatch(new RegExp(`^${name}[ {]`, 'm'))
    expect(promtool(['check', 'metrics'], metrics)).toMatchObject({ status: 0, out: '' })
  })

  test('finds nothing wrong with the metrics of the operator', async () => {
    const operator = new KubeMetrics()
    registerProcessMetrics(operator.registry)
    const conditions = [{ type: 'Ready', status: 'False', reason: 'NotReady', message: '', lastTransitionTime: '' }]
    const database = { metadata: { namespace: 'shop', name: 'orders' }, status: { conditions } }
    registerConditionMetrics(operator.registry, () => [database as never])
    operator.reconciles.inc({ controller: 'database', result: 'error' })
    const metrics = await operator.registry.metrics()
    expect(metrics).toContain(
      'kvidx_database_condition{namespace="shop",database="orders",condition="Ready",status="False"} 1',
    )
    expect(promtool(['check', 'metrics'], metrics)).toMatchObject({ status: 0, out: '' })
  })

  test('would find a metric that is named against the rules', () => {
    const bad = '# HELP wrong_total x\n# TYPE wrong_total gauge\nwrong_total 1\n'
    expect(promtool(['check', 'metrics'], bad).status).not.toBe(0)
  })

  test('reads the alert rules, and they fire when they should', () => {
    expect(promtool(['check', 'rules', RULES])).toMatchObject({ status: 0 })
    for (const name of TESTS) {
      const file = join(temporaryDirectory(), name)
      writeFileSync(file, readFileSync(new URL(name, import.meta.url), 'utf8').replace('RULES', RULES))
      const { status, out } = promtool(['test', 'rules', file])
      expect([name, status, out]).toEqual([name, 0, expect.stringContaining('SUCCESS')])
    }
  })
})
