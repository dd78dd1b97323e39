import { globSync, rmSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Plugin } from 'esbuild'
import { NATIVE_PACKAGES } from './native-packages.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** kvidx.js, one file for each worker thread, and the chunks that they share, in place of whatever was in `outdir`. Resolves with a line about it. */
export async function bundle(outdir: string, plugins: Plugin[] = []): Promise<string> {
  const entryPoints: Record<string, string> = { kvidx: 'src/cli/main.ts' }
  for (const path of globSync('{src,sidecar}/**/*.worker.ts', { cwd: root }).sort()) {
    const name = basename(path, '.ts')
    if (entryPoints[name])
      throw new Error(
        `two workers are called ${name}: ${entryPoints[name]} and ${path}; src/common/worker-url.ts needs unique names`,
      )
    entryPoints[name] = path
  }
  rmSync(outdir, { recursive: true, force: true })
  const { metafile, warnings } = await build({
    absWorkingDir: root,
    entryPoints,
    outdir,
    plugins,
    entryNames: '[name]',
    chunkNames: 'chunk-[hash]', // flat: src/common/worker-url.ts finds workers beside the chunk that asks
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node24',
    // not minified and without source maps: a stack trace names functions as they are, and costs nothing to read
    minify: false,
    sourcemap: false,
    legalComments: 'none',
    metafile: true,
    external: NATIVE_PACKAGES.flatMap(name => [name, `${name}/*`]),
    // CommonJS packages ask for Node's own modules by require, which an ES module does not have
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  })
  if (warnings.length > 0) throw new Error(`esbuild: ${warnings.length} warnings`)
  const bytes = Object.entries(metafile.outputs).reduce(
    (sum, [path, { bytes }]) => sum + (path.endsWith('.js') ? bytes : 0),
    0,
  )
  return `${Object.keys(entryPoints).join(', ')}; ${(bytes / 2 ** 20).toFixed(1)} MiB of JavaScript`
}
