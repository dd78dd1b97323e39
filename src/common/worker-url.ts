/**
 * Where the code of a worker thread lies, from the sources and from the bundle alike.
 *
 * A worker's entry point is a file `<name>.worker.ts` anywhere below sidecar/ or src/; names are unique in the repository. It is
 * started with
 *
 *     new Worker(workerUrl('sidecar/engine/sqlite/reader.worker'))
 *
 * The argument is the file's path from the root of the repository, without `.ts`. Run from the sources this is that file, which
 * Node strips of its types. `npm run build` makes of each such file an entry point of its own in the one flat directory of the
 * bundle, so there only the last part of the path counts. Plain `new URL('./x.worker.ts', import.meta.url)` would not do: after
 * bundling, `import.meta.url` is that of a shared chunk.
 */
export function workerUrl(path: string): URL {
  return locate(path, import.meta.url)
}

/** The rule itself. `here` is the URL of the module that asks: src/common/worker-url.ts, or a file of the bundle. */
export function locate(path: string, here: string): URL {
  if (!/^(?:src|sidecar)\/(?:[a-z0-9-]+\/)*[a-z0-9-]+\.worker$/.test(path)) {
    throw new TypeError(`workerUrl: '${path}' is not of the form sidecar/<folder>/<name>.worker`)
  }
  if (here.endsWith('.ts')) return new URL(`../../${path}.ts`, here)
  return new URL(`./${path.slice(path.lastIndexOf('/') + 1)}.js`, here)
}

/** bin/kvidx, for a child process that is another command of this program: beside src/ in a checkout, beside dist/ in the image. */
export function launcherUrl(here: string = import.meta.url): URL {
  return new URL(here.endsWith('.ts') ? '../../bin/kvidx' : '../bin/kvidx', here)
}
