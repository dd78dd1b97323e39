import { environment } from './environment.ts'

/**
 * Named places where a test can make the program die, wait or fail: `KVIDX_FAILPOINTS='swap.afterJournal=kill;commit.before=sleep(5000)'`.
 * Without the variable a failpoint is one comparison. Actions: `kill` (SIGKILL to itself), `sleep(ms)` (blocks this thread),
 * `error` (throws), each optionally after `N*`: the N-th pass acts, e.g. `3*kill`.
 */
type Action = { kind: 'kill' } | { kind: 'sleep'; ms: number } | { kind: 'error' }

interface Armed {
  readonly action: Action
  readonly once: boolean
  left: number
}

let armed: Map<string, Armed> | undefined = parse(environment.read('KVIDX_FAILPOINTS'))

export function failpoint(name: string): void {
  if (armed === undefined) return
  const point = armed.get(name)
  if (!point || point.left < 1) return
  if (point.once && --point.left > 0) return
  switch (point.action.kind) {
    case 'kill':
      process.kill(process.pid, 'SIGKILL')
      // the signal comes on return to user space of some thread; nothing may happen before
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
      return
    case 'sleep':
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, point.action.ms)
      return
    case 'error':
      throw new Error(`failpoint ${name}`)
  }
}

/** For tests within the process; undefined disarms all. */
export function armFailpoints(setting: string | undefined): void {
  armed = parse(setting)
}

function parse(setting: string | undefined): Map<string, Armed> | undefined {
  if (!setting) return undefined
  const points = new Map<string, Armed>()
  for (const part of setting.split(';')) {
    const match = /^([\w.]+)=(?:(\d+)\*)?(?:(kill|error)|sleep\((\d+)\))$/.exec(part.trim())
    if (!match) throw new Error(`KVIDX_FAILPOINTS: '${part}' is not NAME=[N*]kill|error|sleep(MS)`)
    const action: Action =
      match[3] === 'kill'
        ? { kind: 'kill' }
        : match[3] === 'error'
          ? { kind: 'error' }
          : { kind: 'sleep', ms: Number(match[4]) }
    points.set(match[1] as string, { action, once: match[2] !== undefined, left: Number(match[2] ?? 1) })
  }
  return points
}
