import { once } from 'node:events'
import { connect } from 'node:tls'
import { Agent, request } from 'undici'
import { expect, onTestFinished, test, vi } from 'vitest'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import { type Clock, systemClock } from '../../../src/common/clock.ts'
import type { Log } from '../../../src/common/log.ts'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'
import { certificatePair } from './certificate-pair.ts'
import { startForTest } from './harness.ts'

const DAY = 86_400_000
const patience = { timeout: 15_000, interval: 100 }

/** The system's clock with another date. */
class Shifted implements Clock {
  days = 0
  now = () => systemClock.now() + this.days * DAY
  monotonic = () => systemClock.monotonic()
  sleep = (ms: number, signal?: AbortSignal) => systemClock.sleep(ms, signal)
  setTimer = (ms: number, callback: () => void) => systemClock.setTimer(ms, callback)
}

test('a certificate that clients refuse is served, and told: at the start, after a renewal, and as time passes', {
  timeout: 60_000,
}, async () => {
  const directory = temporaryDirectory()
  const clock = new Shifted()
  clock.days = 3
  certificatePair('first', directory, 2)
  const { sidecar, status } = await sidecarHere({
    tlsDirectory: directory,
    clock,
    spec: { security: { tls: { secretRef: { name: 'tls' } } }, monitoring: { logLevel: 'Error' } },
  })
  const url = await sidecar.serving
  expect(url).toMatch(/^https:/)
  const causes = async () => {
    const found = (await status()).health.causes as { reason: string; message: string }[]
    return found.filter(({ reason }) => reason.startsWith('Certificate'))
  }
  const metric = async (name: string) => {
    const text = await (await fetch(`${sidecar.opsAddress}/metrics`)).text()
    return Number(new RegExp(`^kvidx_tls_certificate_${name}_timestamp_seconds (.+)$`, 'm').exec(text)?.[1])
  }
  expect(await causes()).toEqual([
    {
      reason: 'CertificateExpired',
      message: expect.stringMatching(/CN=first\) expired at 20.*; it is served, and clients that look at it refuse it/),
      since: expect.anything(),
    },
  ])
  const { certificate, state } = await status()
  expect([state, certificate.subject]).toEqual(['DEGRADED', 'CN=first'])
  expect(Date.parse(certificate.notAfter) - Date.parse(certificate.notBefore)).toBe(2 * DAY)
  expect(Math.abs((await metric('not_after')) * 1000 - systemClock.now() - 2 * DAY)).toBeLessThan(60_000)
  expect(await metric('not_before')).toBe(Date.parse(certificate.notBefore) / 1000)
  const blind = new Agent({ connect: { rejectUnauthorized: false } })
  onTestFinished(() => blind.close())
  const served = await request(`${url}/v1/count`, { dispatcher: blind })
  await served.body.dump()
  expect(served.statusCode).toBe(200)

  certificatePair('second', directory, 30)
  await vi.waitFor(async () => expect(await causes()).toEqual([]), patience)
  expect((await status()).certificate.subject).toBe('CN=second')
  // its files stay as they are
  clock.days = 31
  await vi.waitFor(async () => expect(await causes()).toMatchObject([{ reason: 'CertificateExpired' }]), patience)
  clock.days = -1
  await vi.waitFor(async () => expect(await causes()).toMatchObject([{ reason: 'CertificateNotYetValid' }]), patience)
  await sidecar.stop()
})

test('a renewal does not touch connections: a write that began before it ends on its own, and new ones get the new certificate', async () => {
  const directory = temporaryDirectory()
  const tls = certificatePair('first', directory)
  const { url } = await startForTest({ data: { host: '127.0.0.1', port: 0, tls }, reloadInterval: 20 })
  const open = async () => {
    const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', rejectUnauthorized: false })
    onTestFinished(() => void socket.destroy())
    await once(socket, 'secureConnect')
    return { socket, subject: String(socket.getPeerCertificate().subject.CN) }
  }
  const held = await open()
  expect(held.subject).toBe('first')
  held.socket.write('PUT /v1/records/1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nhello')
  certificatePair('second', directory)
  await expect.poll(async () => (await open()).subject, { timeout: 5000, interval: 50 }).toBe('second')
  const answer = async () => String((await once(held.socket, 'data'))[0])
  held.socket.write('world')
  expect(await answer()).toMatch(/^HTTP\/1.1 201 /)
  held.socket.write('GET /v1/records/1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')
  expect(await answer()).toMatch(/^HTTP\/1.1 200 .*\r\n\r\nhelloworld$/s)
  expect(held.socket.getPeerCertificate().subject.CN).toBe('first')
})

test('a cause of trouble is a line in the log when it comes and when it goes', () => {
  const lines: unknown[][] = []
  const line = (...given: unknown[]) => lines.push(given)
  const log = { debug: line, info: line, warn: line, error: line } as unknown as Log['logger']
  const config = databaseConfig({ name: 'orders', engine: 'SQLite', dataDirectory: temporaryDirectory() })
  const { board } = new LocalDatabase(config, systemClock, log)
  board.raise('CertificateExpired', 'it expired', 1)
  board.raise('CertificateExpired', 'it expired', 2)
  board.clear('CertificateExpired')
  board.clear('CertificateExpired')
  expect(lines).toEqual([
    [{ reason: 'CertificateExpired', cause: 'it expired' }, 'degraded'],
    [{ reason: 'CertificateExpired' }, 'no longer degraded by this'],
  ])
})
