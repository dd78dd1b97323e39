import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { TSchema } from '@sinclair/typebox'
import { describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { parseManifests } from '../../../src/api/manifest.ts'
import { KVIDX_BACKUP } from '../../../src/api/v1alpha1/kvidx-backup.ts'
import { KVIDX_DATABASE } from '../../../src/api/v1alpha1/kvidx-database.ts'
import { KVIDX_RESTORE } from '../../../src/api/v1alpha1/kvidx-restore.ts'
import { REASONS } from '../../../src/api/v1alpha1/reasons.ts'
import { callsOf, problemOf, wordsOf } from './commands.ts'

const ROOT = new URL('../../../', import.meta.url).pathname
const DOCUMENTS = ['README.md', ...globSync('docs/*.md', { cwd: ROOT }).sort()]
const DECISIONS = globSync('docs/decisions/*.md', { cwd: ROOT }).sort()
const KINDS = [KVIDX_DATABASE, KVIDX_BACKUP, KVIDX_RESTORE]
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')
const runbooks = read('docs/runbooks.md')
const sections = [...runbooks.matchAll(/^## (\S+)$/gm)].map(([, id]) => id as string)
const reasons = Object.entries(REASONS) as [string, { runbook?: string; todo: string; severity: string }][]

describe('the runbooks', () => {
  it('have a section for every id of the reasons, once, and no other', () => {
    const ids = new Set(reasons.flatMap(([, { runbook }]) => (runbook === undefined ? [] : [runbook])))
    expect(sections.toSorted()).toEqual([...ids].toSorted())
  })

  it.each(sections)('%s says what is seen, what it means, what to do and when it is over', id => {
    const section = runbooks.split(/^## /m).find(text => text.startsWith(`${id}\n`)) ?? ''
    for (const part of ['Seen.', 'Means.', 'Do.', 'Over when']) expect(section).toContain(`**${part}**`)
  })

  it('name in their section every reason that leads to it', () => {
    for (const [reason, { runbook }] of reasons) {
      if (runbook === undefined || reason === 'Failed') continue
      const section = runbooks.split(/^## /m).find(text => text.startsWith(`${runbook}\n`)) ?? ''
      expect(section.includes(reason), `${runbook} does not name ${reason}`).toBe(true)
    }
  })

  it('are for reasons that something sets', () => {
    const sources = globSync('{src,sidecar}/**/*.ts', { cwd: ROOT })
      .filter(file => !file.endsWith('reasons.ts'))
      .map(read)
      .join('\n')
    expect(reasons.map(([name]) => name).filter(name => !sources.includes(`'${name}'`))).toEqual([])
  })

  it('are there for every reason that a person must do something about at once', () => {
    for (const [name, { severity, runbook }] of reasons)
      if (severity === 'Critical') expect([name, runbook]).not.toEqual([name, undefined])
  })
})

describe('the documents', () => {
  it.each(DOCUMENTS)('%s calls kvidx with commands and options that exist', async file => {
    const wrong: string[] = []
    for (const call of callsOf(read(file))) {
      const problem = await problemOf(call)
      if (problem !== undefined) wrong.push(`${call.text}: ${problem}`)
    }
    expect(wrong).toEqual([])
  })

  it('name no command of kvidx in what a person is to do that does not exist', async () => {
    for (const [name, { todo }] of reasons)
      for (const [, text = ''] of todo.matchAll(/(kvidx [^.:;]+)/g))
        for (const call of callsOf(`\`${text.trim()}\``))
          expect([name, text, await problemOf(call)]).toEqual([name, text, undefined])
  })

  it.each(DOCUMENTS)('%s patches only fields that a kind has', file => {
    const wrong = patchesOf(read(file)).flatMap(({ kind, body }) => unknownFields(kind, body))
    expect(wrong).toEqual([])
  })

  it.each(DOCUMENTS)('%s shows manifests of ours that are valid', file => {
    for (const [, body = ''] of read(file).matchAll(/^```yaml\n([\s\S]*?)^```$/gm)) {
      for (const document of parseAllDocuments(body)) expect(document.errors).toEqual([])
      if (/^apiVersion: kvidx\.io\//m.test(body)) expect(parseManifests([{ file, text: body }]).objects).not.toEqual([])
    }
  })

  it.each([...DOCUMENTS, ...DECISIONS])('%s has links that lead somewhere', file => {
    for (const [, target = ''] of read(file).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue
      const [path = '', anchor] = target.split('#')
      const linked = path === '' ? file : join(dirname(file), path)
      expect(existsSync(join(ROOT, linked)), `${file}: ${target}`).toBe(true)
      if (anchor !== undefined) expect(anchorsOf(read(linked)), `${file}: ${target}`).toContain(anchor)
    }
  })

  it('would be found out: a wrong command, flag, value, field', async () => {
    const problems = async (text: string) => Promise.all(callsOf(`\`\`\`\n${text}\n\`\`\`\n`).map(problemOf))
    expect(await problems('kvidx gte 1')).toEqual(["there is no command 'gte'"])
    expect(await problems('kvidx get 1 --sever x')).toEqual(["'get' has no option '--sever'"])
    expect(await problems('kvidx export --format bin')).toEqual([expect.stringContaining('is one of binary')])
    expect(await problems('kvidx check all')).toEqual([expect.stringContaining('has 0 arguments')])
    expect(await problems('kvidx get 1 && kvidx helpme')).toEqual([undefined, "there is no command 'helpme'"])
    expect(unknownFields('kvdb', { spec: { storage: { sice: '1Gi' } } })).toEqual(['kvdb: spec.storage.sice'])
    expect(wordsOf(`a 'b c' "d e" | f && g`)).toEqual(['a', 'b c', 'd e', '|', 'f', '&&', 'g'])
  })
})

/** Merge patches of `kubectl patch <kind of ours> ... -p '{...}'`. */
function patchesOf(markdown: string): readonly { kind: string; body: unknown }[] {
  const found: { kind: string; body: unknown }[] = []
  for (const [, kind = '', type, json = ''] of markdown.matchAll(
    /kubectl patch (kvdb|kvbak|kvres) \S+ --type (merge|json) -p '([^']*)'/g,
  )) {
    const body = JSON.parse(json) as unknown
    if (type === 'merge') found.push({ kind, body })
    else
      for (const { path, value } of body as { path: string; value?: unknown }[])
        found.push({
          kind,
          body: path
            .split('/')
            .slice(1)
            .reduceRight<unknown>((inner, name) => ({ [name]: inner }), value),
        })
  }
  return found
}

function unknownFields(shortName: string, body: unknown): readonly string[] {
  const kind = KINDS.find(({ shortNames }) => (shortNames as readonly string[]).includes(shortName))
  if (!kind) return [`${shortName}: no such kind`]
  const wrong: string[] = []
  const walk = (value: unknown, schema: TSchema | undefined, path: string) => {
    if (!schema) return void wrong.push(`${shortName}: ${path}`)
    if (typeof value !== 'object' || value === null || Array.isArray(value) || !schema.properties) return
    for (const [name, inner] of Object.entries(value))
      walk(inner, (schema.properties as Record<string, TSchema>)[name], path === '' ? name : `${path}.${name}`)
  }
  walk(body, { properties: { spec: kind.spec } } as unknown as TSchema, '')
  return wrong
}

/** As GitHub makes them. */
function anchorsOf(markdown: string): readonly string[] {
  return [...markdown.replaceAll(/^```[\s\S]*?^```$/gm, '').matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
}
