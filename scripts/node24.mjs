// `node scripts/node24.mjs COMMAND...`: what every npm script starts with, so that it works on a fresh clone and on any Node from 20 on.
// Installs the dependencies when they are missing or older than the lock file, finds Node 24, and runs COMMAND with it first in PATH.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { become, findNode24 } from '../bin/find-node.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const readJson = path => JSON.parse(readFileSync(path, 'utf8'))

/** Why the dependencies must be installed, or undefined. */
function staleness() {
  const installed = join(root, 'node_modules/.package-lock.json')
  if (!existsSync(installed)) return 'the dependencies are not installed yet'
  const have = readJson(installed).packages
  for (const [path, wanted] of Object.entries(readJson(join(root, 'package-lock.json')).packages)) {
    if (path === '' || wanted.link) continue
    const there = have[path]
    // an optional package for another machine is never there
    if (!there && (wanted.optional || wanted.devOptional)) continue
    if (there?.version !== wanted.version) return `${path} is ${there?.version ?? 'missing'}, not ${wanted.version}`
  }
}

function install(reason) {
  process.stderr.write(`Installing dependencies (npm ci): ${reason}\n`)
  // --ignore-scripts: no package of ours needs one, and none may run code at installation
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund']
  // npm says which npm runs us; by hand it is the one in PATH
  const npm = process.env.npm_execpath
  const { status, error } = npm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: 'inherit' })
    : spawnSync('npm', args, { cwd: root, stdio: 'inherit' })
  if (error) fail(`npm: ${error.message}`)
  if (status !== 0) fail(`npm ci failed with exit code ${status}; its messages stand above`)
}

function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

const [command, ...args] = process.argv.slice(2)
if (!command) fail('usage: node scripts/node24.mjs COMMAND [ARGUMENT...]')
const reason = staleness()
if (reason) install(reason)
let node
try {
  node = findNode24()
} catch (error) {
  fail(error.message)
}
const path = [dirname(node), join(root, 'node_modules/.bin'), process.env.PATH].join(delimiter)
become(command === 'node' ? node : command, args, { ...process.env, PATH: path })
