import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { Agent, request } from 'undici'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startServers } from '../../../sidecar/server/servers.ts'
import { certificatePair as pair } from './certificate-pair.ts'
import { call, silent, startForTest } from './harness.ts'

const TOKENS = { read: 'read-token-0123456789', write: 'write-token-0123456789', admin: 'admin-token-0123456789' }

function tokenDirectory(tokens: Record<string, string>): string {
  const directory = mkdtempSync(join(tmpdir(), 'tokens-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  for (const [name, content] of Object.entries(tokens)) writeFileSync(join(directory, name), content)
  return directory
}

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })

describe('tokens', () => {
  test('each right contains the one before, and a call without a token is a 401', async () => {
    const { url } = await startForTest({ tokensDirectory: tokenDirectory(TOKENS) })
    const calls = {
      read: () => (token?: string) => call(`${url}/v1/count`, 'GET', token ? bearer(token) : {}),
      write: () => (token?: string) => call(`${url}/v1/records/1`, 'PUT', { body: 'x', ...(token && bearer(token)) }),
      admin: () => (token?: string) => call(`${url}/v1/admin/freeze?lease=1ms`, 'POST', token ? bearer(token) : {}),
    }
    const statusOf = async (which: keyof typeof calls, token?: string) => {
      const { status } = await calls[which]()(token)
      return status < 300 ? 'ok' : status
    }
    expect(await Promise.all((['read', 'write', 'admin'] as const).map(which => statusOf(which)))).toEqual([
      401, 401, 401,
    ])
    const table = []
    for (const token of Object.values(TOKENS)) {
      const row = []
      for (const which of ['read', 'write', 'admin'] as const) row.push(await statusOf(which, token))
      table.push(row)
    }
    expect(table).toEqual([
      ['ok', 403, 403],
      ['ok', 'ok', 403],
      ['ok', 'ok', 'ok'],
    ])
  })

  test('a wrong token, another scheme and a token in the query are refused, and nothing is told of the database', async () => {
    const { url } = await startForTest({ tokensDirectory: tokenDirectory(TOKENS) })
    for (const authorization of ['Bearer wrong', `Basic ${TOKENS.read}`, 'Bearer', `Bearer ${TOKENS.read}x`]) {
      const refused = await call(`${url}/v1/records/1`, 'GET', { headers: { authorization } })
      expect(refused.status).toBe(401)
      expect(refused.json.code).toBe('unauthorized')
      expect(refused.headers.get('www-authenticate')).toContain('Bearer')
      expect(refused.headers.get('kvidx-position')).toBeNull()
      expect(refused.text).not.toContain(TOKENS.read)
    }
    expect((await call(`${url}/v1/records/1?token=${TOKENS.read}`)).status).toBe(401)
    const unknown = await call(`${url}/nothing`)
    expect(unknown.status).toBe(404)
    expect(unknown.headers.get('kvidx-position')).toBeNull()
  })

  test('two are valid at once, and a rotation needs no restart', async () => {
    const old = 'old-read-token-000000'
    const directory = tokenDirectory({ ...TOKENS, read: `${old}\n` })
    const { url } = await startForTest({ tokensDirectory: directory, reloadInterval: 20 })
    const status = async (token: string) => (await call(`${url}/v1/count`, 'GET', bearer(token))).status
    const becomes = async (token: string, expected: number) => {
      await expect.poll(() => status(token), { timeout: 3000, interval: 20 }).toBe(expected)
    }
    expect(await status(old)).toBe(200)
    writeFileSync(join(directory, 'read'), `${old}\n${TOKENS.read}\n`)
    await becomes(TOKENS.read, 200)
    expect(await status(old)).toBe(200)
    writeFileSync(join(directory, 'read'), `${TOKENS.read}\n`)
    await becomes(old, 401)
    // what cannot be used leaves the old ones in force
    writeFileSync(join(directory, 'read'), 'short')
    await new Promise(resolve => setTimeout(resolve, 100))
    expect(await status(TOKENS.read)).toBe(200)
  })

  test.each([
    ['no file at all', {}],
    ['three tokens', { read: `${TOKENS.read} ${TOKENS.write} ${TOKENS.admin}` }],
    ['a short one', { read: 'secret' }],
  ])('%s is refused at the start', async (_, tokens) => {
    await expect(startForTest({ tokensDirectory: tokenDirectory(tokens) })).rejects.toMatchObject({
      code: 'invalid_parameter',
    })
  })

  test('a listener that others reach is refused without tokens', async () => {
    for (const host of ['0.0.0.0', '::', '192.0.2.1'])
      await expect(startForTest({ data: { host, port: 0 } })).rejects.toMatchObject({
        code: 'invalid_parameter',
        message: expect.stringContaining('without tokens'),
      })
    const { url } = await startForTest({ data: { host: '0.0.0.0', port: 0 }, tokensDirectory: tokenDirectory(TOKENS) })
    expect((await call(`${url.replace('0.0.0.0', '127.0.0.1')}/v1/count`)).status).toBe(401)
  })
})

describe('a loopback listener without tokens', () => {
  test('serves programs, but no web pages and no foreign host names', async () => {
    const { url } = await startForTest()
    const port = new URL(url).port
    const status = async (headers: Record<string, string>) => {
      const answer = await request(`${url}/v1/count`, { headers })
      await answer.body.dump()
      return answer.statusCode
    }
    expect(await status({})).toBe(200)
    expect(await status({ host: `localhost:${port}` })).toBe(200)
    expect(await status({ host: `[::1]:${port}` })).toBe(200)
    expect(await status({ host: 'evil.example' })).toBe(403)
    expect(await status({ origin: 'https://evil.example' })).toBe(403)
    expect(await status({ 'sec-fetch-site': 'cross-site' })).toBe(403)
  })
})

describe('the Unix socket', () => {
  test('has the rights of a writer without a token, and never those of an admin', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'socket-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const socketPath = join(directory, 'kvidx.sock')
    await startForTest({ socketPath, tokensDirectory: tokenDirectory(TOKENS) })
    expect((statSync(socketPath).mode & 0o777).toString(8)).toBe('660')
    const dispatcher = new Agent({ connect: { socketPath } })
    onTestFinished(() => dispatcher.close())
    const status = async (path: string, method: 'GET' | 'PUT' | 'POST', headers = {}) => {
      const answer = await request(`http://localhost${path}`, {
        method,
        dispatcher,
        headers,
        ...(method === 'PUT' && { body: 'x' }),
      })
      await answer.body.dump()
      return answer.statusCode
    }
    expect(await status('/v1/records/1', 'PUT')).toBe(201)
    expect(await status('/v1/records/1', 'GET')).toBe(200)
    expect(await status('/v1/admin/checkpoint', 'POST')).toBe(403)
    expect(await status('/v1/admin/checkpoint', 'POST', { authorization: `Bearer ${TOKENS.admin}` })).toBe(403)
  })

  test('takes the place of one that a killed process left, and of nothing else', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'socket-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const socketPath = join(directory, 'kvidx.sock')
    const script = `require('net').createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, 'SIGKILL'))`
    expect(spawnSync(process.execPath, ['-e', script]).signal).toBe('SIGKILL')
    expect(statSync(socketPath).isSocket()).toBe(true)
    const running = await startForTest({ socketPath })
    await expect(
      startServers(
        running.database,
        { data: { host: '127.0.0.1', port: 0 }, operations: { host: '127.0.0.1', port: 0 }, socketPath },
        silent,
      ),
    ).rejects.toMatchObject({ code: 'conflict' })
    const file = join(directory, 'file')
    writeFileSync(file, 'precious')
    await expect(startForTest({ socketPath: file })).rejects.toMatchObject({ code: 'conflict' })
    expect(readFileSync(file, 'utf8')).toBe('precious')
    await expect(startForTest({ socketPath: `/tmp/${'x'.repeat(120)}` })).rejects.toMatchObject({
      code: 'invalid_parameter',
    })
  })
})

describe('TLS', () => {
  const subject = (url: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const { port, hostname } = new URL(url)
      const socket = connect({ port: Number(port), host: hostname, rejectUnauthorized: false }, () => {
        resolve(String(socket.getPeerCertificate().subject.CN))
        socket.destroy()
      })
      socket.once('error', reject)
    })

  test('serves with the given certificate, and with the next one without a restart', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tls-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const tls = pair('first', directory)
    const { url } = await startForTest({
      data: { host: '127.0.0.1', port: 0, tls },
      tokensDirectory: tokenDirectory(TOKENS),
      reloadInterval: 20,
    })
    expect(url).toMatch(/^https:/)
    const dispatcher = new Agent({ connect: { ca: readFileSync(tls.certFile) } })
    onTestFinished(() => dispatcher.close())
    const answer = await request(`${url}/v1/count`, { dispatcher, ...bearer(TOKENS.read) })
    expect(answer.statusCode).toBe(200)
    await answer.body.dump()
    expect(await subject(url)).toBe('first')
    pair('second', directory)
    await expect.poll(() => subject(url), { timeout: 5000, interval: 50 }).toBe('second')
    // half a renewal: the old one stays
    writeFileSync(tls.certFile, 'no certificate')
    await new Promise(resolve => setTimeout(resolve, 150))
    expect(await subject(url)).toBe('second')
  })

  test('files that are no pair are refused at the start', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tls-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const tls = pair('first', directory)
    writeFileSync(tls.keyFile, 'no key')
    await expect(startForTest({ data: { host: '127.0.0.1', port: 0, tls } })).rejects.toMatchObject({
      code: 'invalid_parameter',
    })
  })
})
