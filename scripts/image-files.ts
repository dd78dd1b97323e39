// `node scripts/image-files.ts DIRECTORY`: puts there what an image needs to run `kvidx`, and nothing else. The bundle must be built.
import { cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { NATIVE_PACKAGES } from './native-packages.ts'

interface Locked {
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const [target] = process.argv.slice(2)
if (!target) throw new Error('usage: node scripts/image-files.ts DIRECTORY')
const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, Locked> }

/** Node's own rule: a dependency is looked for below the package that wants it, then in each folder above. */
function resolve(from: string, name: string): string | undefined {
  for (let base = from; ; base = base.slice(0, Math.max(0, base.lastIndexOf('/node_modules/')))) {
    const path = `${base ? `${base}/` : ''}node_modules/${name}`
    if (packages[path] && existsSync(path)) return path
    if (!base) return undefined
  }
}

const wanted = new Set<string>()
function want(path: string): void {
  if (wanted.has(path)) return
  wanted.add(path)
  const { dependencies, optionalDependencies } = packages[path] ?? {}
  for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
    if (ONLY_TO_COMPILE.has(name)) continue
    const found = resolve(path, name)
    if (found) want(found)
    else if (!optionalDependencies?.[name]) throw new Error(`${path} needs ${name}, which is not installed`)
  }
}
// their headers are wanted by a compiler only
const ONLY_TO_COMPILE = new Set(['node-addon-api'])
for (const name of NATIVE_PACKAGES) {
  const found = resolve('', name)
  if (!found) throw new Error(`${name} is not installed`)
  want(found)
}

mkdirSync(target, { recursive: true })
for (const path of ['bin', 'dist', 'package.json', 'LICENSE']) cpSync(path, join(target, path), { recursive: true })
for (const path of wanted) {
  cpSync(path, join(target, path), {
    recursive: true,
    filter: source => !source.slice(path.length).includes('/node_modules'),
  })
}

// sources, headers, type declarations and binaries for other machines
const { arch } = process
const superfluous = [
  'node_modules/better-sqlite3/{deps,src}',
  'node_modules/koffi/{vendor,doc,lib,cnoke.cjs}',
  'node_modules/lmdb/{src,dependencies,bin}',
  'node_modules/*/{binding.gyp,rollup.config.js,tests}',
  'node_modules/**/*.{d.ts,d.cts,d.mts,map,cc,hh,h,c,cpp,S,asm}',
  'node_modules/**/{README,CHANGELOG,SECURITY,benchmark}.md',
  'node_modules/{@lmdb,@msgpackr-extract}/*/*.musl.node',
  'node_modules/{@lmdb,@msgpackr-extract}/*/node.abi*.node',
  'node_modules/**/.*',
  'node_modules/@koromix/*/musl_*',
]
for (const pattern of superfluous)
  for (const path of globSync(pattern, { cwd: target })) rmSync(join(target, path), { recursive: true, force: true })
const keep = new Set(globSync(`node_modules/better-sqlite3/prebuilds/linux-${arch}.node`, { cwd: target }))
for (const path of globSync('node_modules/better-sqlite3/prebuilds/*.node', { cwd: target }))
  if (!keep.has(path)) rmSync(join(target, path))
console.log(`${target}: ${[...wanted].map(path => path.replace('node_modules/', '')).join(', ')}`)
