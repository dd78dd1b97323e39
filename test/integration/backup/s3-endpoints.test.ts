import { execFileSync } from 'node:child_process'
import dns from 'node:dns'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { type RunningS3, startVersitygw } from '../../servers/versitygw.ts'
import { s3Binary, s3StoreIn } from './s3-server.ts'

describe.skipIf(!s3Binary)('an S3 endpoint with TLS and virtual hosts', () => {
  let server: RunningS3
  let directory: string
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kvidx-tls-'))
    const file = (name: string) => join(directory, name)
    const options = [
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=localhost',
    ]
    const names = 'subjectAltName=DNS:s3.localhost,DNS:*.s3.localhost,IP:127.0.0.1'
    execFileSync(
      'openssl',
      ['req', ...options, '-addext', names, '-keyout', file('key.pem'), '-out', file('cert.pem')],
      { stdio: 'ignore' },
    )
    server = await startVersitygw(s3Binary!, {
      cert: file('cert.pem'),
      key: file('key.pem'),
      virtualDomain: 's3.localhost',
    })
  })
  afterAll(async () => {
    await server.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  it('is trusted by its own authority alone, and said to be untrusted otherwise', async () => {
    const ca = readFileSync(join(directory, 'cert.pem'), 'utf8')
    const trusting = s3StoreIn(server, { ca })
    await trusting.put('x', Buffer.from('x'))
    expect(await trusting.head('x')).toMatchObject({ size: 1 })
    const strict = s3StoreIn(server, { attempts: 1 })
    await expect(strict.head('x')).rejects.toMatchObject({
      code: 'store_unreachable',
      message: expect.stringMatching(/authority/),
    })
    await Promise.all([trusting.close(), strict.close()])
  })

  it('is reached by virtual hosts, where the bucket is part of the name', async () => {
    // few machines resolve names below localhost, as a real endpoint's wildcard entry would
    const asked: string[] = []
    const resolve = (name: string, options: { all?: boolean }, done: (...result: unknown[]) => void) => {
      asked.push(name)
      if (options.all) done(null, [{ address: '127.0.0.1', family: 4 }])
      else done(null, '127.0.0.1', 4)
    }
    const spy = vi.spyOn(dns, 'lookup').mockImplementation(resolve as never)
    const ca = readFileSync(join(directory, 'cert.pem'), 'utf8')
    const { port } = new URL(server.endpoint)
    const store = s3StoreIn(server, {
      ca,
      bucket: 'a-bucket',
      pathStyle: false,
      endpoint: `https://s3.localhost:${port}`,
      prefix: 'p',
    })
    await store.put('deep/x', Buffer.from('virtual'))
    expect((await store.list('')).objects.map(item => item.key)).toEqual(['deep/x'])
    expect(readFileSync(join(server.directory, 'a-bucket/p/deep/x'), 'utf8')).toBe('virtual')
    expect(asked).toContain('a-bucket.s3.localhost')
    await store.close()
    spy.mockRestore()
  })
})
