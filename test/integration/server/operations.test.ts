import { describe, expect, onTestFinished, test } from 'vitest'
import type { Health } from '../../../sidecar/database/database.ts'
import { OperationsServer } from '../../../sidecar/server/operations.ts'
import { call, RawConnection, silent, startForTest } from './harness.ts'

describe('the operations port', () => {
  test('tells health and readiness, as text and as JSON', async () => {
    const { servers } = await startForTest()
    const health = await call(`${servers.opsAddress}/health`)
    expect([health.status, health.text]).toEqual([200, 'OK\n'])
    const ready = await call(`${servers.opsAddress}/ready`)
    expect([ready.status, ready.text]).toEqual([200, 'READY\n'])
    const json = await call(`${servers.opsAddress}/health`, 'GET', { headers: { accept: 'application/json' } })
    expect(json.json).toEqual({ state: 'OK', causes: [] })
    expect((await call(`${servers.opsAddress}/health`, 'HEAD')).status).toBe(200)
  })

  test('DEGRADED names each cause and stays 200, UNHEALTHY is 503', async () => {
    let health: Health = {
      state: 'DEGRADED',
      causes: [
        { reason: 'WalLarge', message: 'the WAL has 120 MB', since: 1 },
        { reason: 'NoSpace', message: '1 MB is free', since: 2 },
      ],
    }
    const { servers } = await startForTest({
      instead: () => ({
        get health() {
          return health
        },
        ready: false,
      }),
    })
    const degraded = await call(`${servers.opsAddress}/health`)
    expect(degraded.status).toBe(200)
    expect(degraded.text).toBe('DEGRADED\nWalLarge: the WAL has 120 MB\nNoSpace: 1 MB is free\n')
    expect((await call(`${servers.opsAddress}/ready`)).status).toBe(503)
    health = { state: 'UNHEALTHY', causes: [{ reason: 'WriterFailed', message: 'it died', since: 1 }] }
    expect((await call(`${servers.opsAddress}/health`)).status).toBe(503)
    const metrics = (await call(`${servers.opsAddress}/metrics`)).text
    expect(metrics).toContain('kvidx_health_state{state="UNHEALTHY"} 1')
    expect(metrics).toContain('kvidx_health_state{state="OK"} 0')
  })

  test('has metrics under the names of the guide, with bounded labels', async () => {
    const { servers, url } = await startForTest()
    await call(`${url}/v1/records/1`, 'PUT', { body: 'abc' })
    await call(`${url}/v1/records/1`)
    await call(`${url}/v1/records/2`)
    await call(`${url}/v1/records/x`)
    await call(`${url}/no/such/path`)
    const read = async () => (await call(`${servers.opsAddress}/metrics`)).text
    await expect.poll(read, { timeout: 5000 }).toMatch(/^kvidx_db_file_bytes [1-9]/m)
    const text = await read()
    expect(text).toMatch(/^kvidx_keys 1$/m)
    expect(text).toMatch(/^kvidx_data_bytes 3$/m)
    expect(text).toMatch(/^kvidx_wal_bytes \d+$/m)
    expect(text).toMatch(/^kvidx_fragmentation_ratio [\d.]+$/m)
    expect(text).toMatch(/^kvidx_position_seq [1-9]\d*$/m)
    expect(text).toMatch(/^process_resident_memory_bytes /m)
    expect(text).toMatch(/^kvidx_operation_duration_seconds_count\{operation="getRecord",outcome="ok"\} 1$/m)
    expect(text).toMatch(/^kvidx_operation_duration_seconds_count\{operation="getRecord",outcome="rejected"\} 2$/m)
    expect(text).toMatch(/^kvidx_errors_total\{code="invalid_key"\} 1$/m)
    expect(text).toMatch(/^kvidx_errors_total\{code="no_such_route"\} 1$/m)
    expect(text).not.toContain('/no/such/path')
    for (const line of text.split('\n').filter(line => line !== '' && !line.startsWith('#')))
      expect(line).toMatch(/^[a-z0-9_]+(\{[a-zA-Z_]+="[^"]*"(,[a-zA-Z_]+="[^"]*")*\})? (-?[\d.e+-]+|Na[nN]|\+Inf)$/)
  })

  test('has a status with state, tasks and storage, and no records', async () => {
    const { servers, url } = await startForTest()
    await call(`${url}/v1/records/1`, 'PUT', { body: 'precious' })
    const { json, text } = await call(`${servers.opsAddress}/status`)
    expect(json).toMatchObject({ state: 'OK', ready: true, engine: 'SQLite', data: { count: '1', dataBytes: '8' } })
    expect(text).not.toContain('precious')
    expect((await call(`${servers.opsAddress}/v1/records/1`)).status).toBe(404)
    expect((await call(`${servers.opsAddress}/health?x=1`)).json.code).toBe('unknown_parameter')
    expect((await call(`${servers.opsAddress}/health`, 'POST')).json.code).toBe('method_not_allowed')
  })

  test('answers before there is a database', async () => {
    const operations = await OperationsServer.start(
      {
        host: '127.0.0.1',
        port: 0,
        unserved: () => 'waiting for the lock of pod orders-0',
        status: () => ({ name: 'orders' }),
      },
      silent,
    )
    onTestFinished(() => operations.close())
    expect((await call(`${operations.address}/health`)).status).toBe(200)
    const ready = await call(`${operations.address}/ready`)
    expect([ready.status, ready.text]).toEqual([503, 'NOT READY\nwaiting for the lock of pod orders-0\n'])
    expect((await call(`${operations.address}/status`)).json).toMatchObject({ state: 'Starting', name: 'orders' })
    const metrics = (await call(`${operations.address}/metrics`)).text
    expect(metrics).not.toMatch(/^kvidx_keys /m)
  })

  test('answers quickly with a commit that takes long, and so does a GET', async () => {
    const { servers, url, database } = await startForTest()
    await call(`${url}/v1/records/1`, 'PUT', { body: 'a' })
    const { token } = await database.freeze(5000)
    const waiting = call(`${url}/v1/records/1`, 'PUT', { body: 'b' })
    const times: number[] = []
    for (let round = 0; round < 20; round++)
      for (const address of [`${servers.opsAddress}/health`, `${servers.opsAddress}/ready`, `${url}/v1/records/1`]) {
        const began = performance.now()
        expect((await call(address)).status).toBe(200)
        times.push(performance.now() - began)
      }
    times.sort((a, b) => a - b)
    // the median: this machine may be busy with other tests
    expect(times[times.length >> 1]).toBeLessThan(50)
    expect((await call(`${url}/v1/records/1`)).text).toBe('a')
    await database.thaw(token)
    expect((await waiting).status).toBe(204)
  })

  test('survives nonsense', async () => {
    const { servers } = await startForTest()
    const connection = await RawConnection.open(servers.opsAddress)
    connection.send('nonsense\r\n\r\n')
    expect(await connection.untilClosed()).toMatch(/^HTTP\/1\.1 400 /)
    expect((await call(`${servers.opsAddress}/health`)).status).toBe(200)
  })
})
