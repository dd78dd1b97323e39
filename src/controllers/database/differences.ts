import { covers } from './covers.ts'

const LONGEST = 60

/**
 * The fields of `desired` that `live` has otherwise, and those that `previous` had and `desired` no longer names, as `path: before -> after`.
 * Lists whose items have names are compared by name. Pure.
 */
export function differences(desired: unknown, live: unknown, previous?: unknown): readonly string[] {
  const found: string[] = []
  walk(desired, live, previous, '', found)
  return found
}

function walk(desired: unknown, live: unknown, previous: unknown, path: string, found: string[]): void {
  if (path.endsWith('annotations.kvidx.io/applied')) return
  if (Array.isArray(desired) && named(desired) && named(live)) {
    const items = (list: unknown) => new Map((list as readonly { name: string }[]).map(item => [item.name, item]))
    const there = items(live)
    const wanted = items(desired)
    const before = named(previous) ? items(previous) : new Map<string, { name: string }>()
    for (const [name, item] of wanted) walk(item, there.get(name), before.get(name), `${path}[${name}]`, found)
    for (const [name, item] of there) if (!wanted.has(name)) found.push(...lines(`${path}[${name}]`, item, undefined))
    return
  }
  if (isObject(desired)) {
    if (!isObject(live)) {
      if (!covers(desired, live)) found.push(...lines(path, live, desired))
      return
    }
    for (const [name, value] of Object.entries(desired))
      walk(value, live[name], isObject(previous) ? previous[name] : undefined, join(path, name), found)
    if (isObject(previous))
      for (const name of Object.keys(previous))
        if (!(name in desired) && name in live) found.push(...lines(join(path, name), live[name], undefined))
    return
  }
  if (!covers(desired, live)) found.push(...lines(path, live, desired))
}

function named(value: unknown): value is readonly { readonly name: string }[] {
  return (
    Array.isArray(value) && value.length > 0 && value.every(item => isObject(item) && typeof item.name === 'string')
  )
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function join(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`
}

function lines(path: string, before: unknown, after: unknown): readonly string[] {
  // a whole document says nothing in one line; its own fields do
  const documents = [before, after].map(parsed)
  if (documents.every(isObject)) {
    const inner = differences(documents[1], documents[0], documents[0])
    if (inner.length > 0) return inner.map(text => `${path}: ${text}`)
  }
  return [`${path}: ${short(before)} -> ${short(after)}`]
}

function parsed(value: unknown): unknown {
  if (typeof value !== 'string' || !value.startsWith('{')) return undefined
  try {
    return JSON.parse(value)
  } catch {
    return undefined
  }
}

function short(value: unknown): string {
  if (value === undefined) return '(none)'
  const text = JSON.stringify(value)
  return text.length <= LONGEST ? text : `${text.slice(0, LONGEST - 3)}...`
}
