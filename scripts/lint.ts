// `npm run lint`: biome and the compiler, side by side. Exit code 1 when either finds something.
import { run } from './run.ts'

export async function lint(): Promise<{ name: string; ok: boolean }[]> {
  const [style, types] = await Promise.all([
    run('biome', ['check', '--error-on-warnings'], { label: 'biome' }),
    run('tsc', ['-p', '.'], { label: 'tsc' }),
  ])
  return [
    { name: 'biome', ok: style.code === 0 },
    { name: 'tsc', ok: types.code === 0 },
  ]
}

if (import.meta.main) process.exitCode = (await lint()).every(({ ok }) => ok) ? 0 : 1
