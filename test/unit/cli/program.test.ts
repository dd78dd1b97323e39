import { execFileSync } from 'node:child_process'
import { PassThrough } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { COMMANDS } from '../../../src/cli/commands.ts'
import { runCli } from '../../../src/cli/program.ts'

async function run(...args: string[]) {
  const [output, notes] = [new PassThrough(), new PassThrough()]
  const code = await runCli(args, { input: new PassThrough().end(), output, notes, watched: false })
  return { code, out: String(output.read() ?? ''), notes: String(notes.read() ?? '') }
}

describe('kvidx', () => {
  test('help of a command within a command is its own', async () => {
    const { code, out } = await run('help', 'backup', 'create')
    expect([code, out]).toEqual([0, expect.stringMatching(/^Usage: kvidx backup create /)])
  })

  test('alone, or asked for help, lists every command and the exit codes', async () => {
    for (const args of [[], ['help'], ['--help']]) {
      const { code, out } = await run(...args)
      expect([args, code]).toEqual([args, 0])
      for (const [name, { summary }] of Object.entries(COMMANDS)) {
        expect(out).toContain(`  ${name} `)
        expect(out).toContain(summary)
      }
      expect(out).toMatch(/Exit codes:\n {2}0 +done/)
    }
  })

  test.each(Object.keys(COMMANDS))('help %s tells its options', async name => {
    for (const args of [
      ['help', name],
      [name, '--help'],
    ]) {
      const { code, out } = await run(...args)
      expect(code).toBe(0)
      expect(out).toMatch(new RegExp(`^Usage: kvidx ${name} \\[options\\]`))
    }
  })

  test('tells its version, the variables that it reads, and how to go on after a mistake', async () => {
    expect(await run('--version')).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^kvidx-operator \d+\.\d+\.\d+\n$/),
    })
    const { out } = await run('help', 'environment')
    for (const name of ['KVIDX_SERVER', 'KVIDX_CACHE_SIZE', 'NO_COLOR'])
      expect(out).toMatch(new RegExp(`^${name} +\\S`, 'm'))
    expect((await run('get')).notes).toContain("'kvidx help <command>' its options")
  })

  test('completion knows each command, its options and their choices', async () => {
    const { out } = await run('completion')
    const complete = (...words: string[]) => {
      const call = `COMP_WORDS=(kvidx ${words.map(word => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}; _kvidx; echo "\${COMPREPLY[*]}"`
      return execFileSync('bash', ['-c', `${out}\n${call}`], { encoding: 'utf8' }).trim()
    }
    for (const name of Object.keys(COMMANDS)) expect(complete(name).split(' ')).toContain(name)
    expect(complete('im')).toBe('import')
    expect(complete('import', 'file', '--format', '')).toBe('binary json csv ndjson')
    expect(complete('backup', 'create', '--out')).toBe('--output')
    expect(complete('backup', 've')).toBe('verify')
    expect(complete('help', 'quar')).toBe('quarantine')
  })

  test.each([
    ['an unknown command', ['gte', '1'], 'unknown command'],
    ['an unknown option', ['get', '1', '--sever', 'x'], 'Did you mean --server?'],
    ['a missing argument', ['get'], "missing required argument 'key'"],
    ['too many arguments', ['get', '1', '2'], 'too many arguments'],
    ['a value that is no choice', ['count', '--output', 'xml'], 'Allowed choices are table, json'],
    ['help for what is no command', ['help', 'nothing'], 'unknown command'],
  ])('%s is wrong usage', async (_, args, message) => {
    const { code, notes } = await run(...args)
    expect(code).toBe(2)
    expect(notes).toContain(message)
  })
})
