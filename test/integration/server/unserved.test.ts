import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type Clock, systemClock } from '../../../src/common/clock.ts'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'

/** Waits are a twentieth. */
const hurried: Clock = {
  now: () => systemClock.now(),
  monotonic: () => systemClock.monotonic(),
  sleep: (ms, signal) => systemClock.sleep(ms / 20, signal),
  setTimer: (ms, callback) => systemClock.setTimer(ms, callback),
}

const TOKEN = 'a-token-of-the-readers'

test('tokens that come later are taken, with no change of the configuration', { timeout: 30_000 }, async () => {
  const tokensDirectory = join(temporaryDirectory(), 'tokens')
  const { sidecar, status } = await sidecarHere({ clock: hurried, tokensDirectory })
  await expect.poll(async () => (await status()).failure?.message).toContain(`${tokensDirectory} has no token`)
  mkdirSync(tokensDirectory)
  writeFileSync(join(tokensDirectory, 'read'), 'short\n')
  await expect.poll(async () => (await status()).failure?.message, { timeout: 5000 }).toContain('at least 16 visible')
  expect((await fetch(`${sidecar.opsAddress}/ready`)).status).toBe(503)
  writeFileSync(join(tokensDirectory, 'read'), `${TOKEN}\n`)
  const address = await sidecar.serving
  const headers = { authorization: `Bearer ${TOKEN}` }
  expect((await fetch(`${address}/v1/stats`, { headers })).status).toBe(200)
  expect((await fetch(`${sidecar.opsAddress}/ready`)).status).toBe(200)
})

test('what stands in the way of the socket is named, and its going away is enough', { timeout: 30_000 }, async () => {
  const parent = join(temporaryDirectory(), 'run')
  const socketPath = join(parent, 'kvidx.sock')
  const { sidecar, status } = await sidecarHere({ clock: hurried, socketPath })
  const why = async () => (await status()).failure?.message
  // not a lack of permission
  await expect.poll(why).toMatch(/^the directory of the Unix socket .*kvidx\.sock cannot be used: ENOENT/)
  mkdirSync(socketPath, { recursive: true })
  await expect.poll(why, { timeout: 5000 }).toContain(`${socketPath} exists and is no socket`)
  rmdirSync(socketPath)
  await sidecar.serving
  expect(existsSync(socketPath)).toBe(true)
})

test('the socket of a process that lives but does not take calls is left alone', { timeout: 30_000 }, async () => {
  const socketPath = join(temporaryDirectory(), 'kvidx.sock')
  const other = await busyListener(socketPath)
  const { sidecar, status } = await sidecarHere({ clock: hurried, socketPath })
  await expect.poll(async () => (await status()).failure?.message).toBe(`another process serves ${socketPath}`)
  expect(existsSync(socketPath)).toBe(true)
  other.kill('SIGKILL')
  await sidecar.serving
})

/** A process that stands still, its queue full. */
async function busyListener(path: string): Promise<ChildProcess> {
  const code = `require('node:net').createServer().listen({ path: ${JSON.stringify(path)}, backlog: 1 }, () => console.log('listening'))`
  const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  child.kill('SIGSTOP')
  for (;;) {
    const socket = connect(path)
    onTestFinished(() => void socket.destroy())
    const full = await new Promise<boolean>(resolve => {
      socket.once('connect', () => resolve(false))
      socket.once('error', () => resolve(true))
    })
    if (full) return child
  }
}
