// A load generator in a process of its own: `node load.ts URL METHOD CONNECTIONS SECONDS KEYS`. Prints one JSON line.
import autocannon from 'autocannon'

const [url = '', method = 'GET', connections = '1', seconds = '5', keys = '1000'] = process.argv.slice(2)
const body = Buffer.alloc(100, 'x')
const span = Number(keys)
let next = 0

interface Request {
  path?: string
}

const result = await autocannon({
  url,
  connections: Number(connections),
  duration: Number(seconds),
  requests: [
    {
      method: method as 'GET' | 'PUT',
      path: '/v1/records/0',
      ...(method === 'PUT' && { body }),
      setupRequest: (request: Request) => {
        // distinct keys: ascending ones for writes, spread over what was written for reads
        request.path = `/v1/records/${method === 'PUT' ? next++ : (next++ * 7919) % span}`
        return request
      },
    },
  ] as never,
})
process.stdout.write(
  `${JSON.stringify({ total: result.requests.total, seconds: result.duration, p50: result.latency.p50, p99: result.latency.p99, bad: result.non2xx + result.errors })}\n`,
)
