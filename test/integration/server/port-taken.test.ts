import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { sidecarHere } from '../../support/sidecar-here.ts'

describe('a data port that is taken', () => {
  it('the probes answer and say why, and it is served as soon as the port is free', { timeout: 60_000 }, async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    const { sidecar, status } = await sidecarHere({ dataPort: port })
    await expect
      .poll(async () => (await status()).failure?.message)
      .toContain(`EADDRINUSE: address already in use 127.0.0.1:${port}`)
    const ready = await fetch(`${sidecar.opsAddress}/ready`)
    expect(ready.status).toBe(503)
    expect(await ready.text()).toContain('EADDRINUSE')
    expect((await fetch(`${sidecar.opsAddress}/health`)).status).toBe(200)

    other.close()
    await once(other, 'close')
    expect(await sidecar.serving).toBe(`http://127.0.0.1:${port}`)
    expect((await fetch(`http://127.0.0.1:${port}/v1/stats`)).status).toBe(200)
    expect((await fetch(`${sidecar.opsAddress}/ready`)).status).toBe(200)
  })
})
