/**
 * Maps a stream with up to `depth` results on their way at once, in order. For work that runs in libuv's threads: with a depth of
 * the threads that there are, all of them are busy while this one reads and writes. Holds at most `depth + 1` inputs.
 */
export async function* pipelined<In, Out>(
  source: AsyncIterable<In>,
  depth: number,
  work: (input: In, index: number) => Promise<Out>,
): AsyncGenerator<Out> {
  const running: Promise<Out>[] = []
  let index = 0
  for await (const input of source) {
    const task = work(input, index++)
    // a failure is met when its turn comes; until then it must not count as unhandled
    task.catch(() => undefined)
    running.push(task)
    if (running.length >= depth) yield (await running.shift()) as Out
  }
  for (const task of running) yield await task
}
