import type { CommandOptions, CommandResult } from './command.ts'
import { e2e } from './environment.ts'
import { apply, kubectl, tryKubectl } from './kubectl.ts'

/** Runs a command in a container; rejects when it fails. */
export function exec(
  namespace: string,
  pod: string,
  container: string,
  args: readonly string[],
  options?: CommandOptions,
): Promise<string> {
  return kubectl(['-n', namespace, 'exec', '-i', pod, '-c', container, '--', ...args], options)
}

/** The same, whatever the exit code. */
export function tryExec(
  namespace: string,
  pod: string,
  container: string,
  args: readonly string[],
  options?: CommandOptions,
): Promise<CommandResult> {
  return tryKubectl(['-n', namespace, 'exec', '-i', pod, '-c', container, '--', ...args], options)
}

/** The log of a container so far. */
export function logs(namespace: string, pod: string, container?: string): Promise<string> {
  return kubectl(['-n', namespace, 'logs', pod, ...(container === undefined ? [] : ['-c', container])])
}

export interface PodRequest {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  /** Path of a Unix socket in the pod. */
  readonly socketPath?: string
  /** Bound of the request, ms; default 10 s. */
  readonly timeout?: number
}

export interface PodResponse {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** What runs in the pod: reads a request from standard input, writes the response to standard output, both JSON. */
const REQUEST = `
const http = require('node:http')
let input = ''
process.stdin.on('data', chunk => { input += chunk }).on('end', () => {
  const { url, method, headers, body, socketPath, timeout } = JSON.parse(input)
  const fail = error => { console.error(String(error)); process.exit(1) }
  const request = http.request(url, { method, headers, socketPath, agent: false }, response => {
    const chunks = []
    response.on('data', chunk => chunks.push(chunk)).on('error', fail).on('end', () => {
      const answer = { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() }
      process.stdout.write(JSON.stringify(answer))
    })
  })
  request.setTimeout(timeout, () => request.destroy(new Error('no answer within ' + timeout + ' ms')))
  request.on('error', fail)
  request.end(body)
})`

/** A pod that does nothing but answer to `request`. Its image is the operator's, which has Node in it. */
export class Client {
  readonly namespace: string
  readonly pod: string

  private constructor(namespace: string, pod: string) {
    this.namespace = namespace
    this.pod = pod
  }

  /** Starts the pod and waits until it runs. It ends with its namespace. */
  static async start(namespace: string, pod = 'client', options: { readonly node?: string } = {}): Promise<Client> {
    await apply([clientPod(pod, options.node)], { namespace })
    await kubectl(['-n', namespace, 'wait', '--for=condition=Ready', `pod/${pod}`, '--timeout=60s'], {
      timeout: 70_000,
    })
    return new Client(namespace, pod)
  }

  /** One HTTP request from inside the cluster, as an application makes it. Rejects when there is no answer. */
  async request(url: string, request: PodRequest = {}): Promise<PodResponse> {
    const { method = 'GET', timeout = 10_000, ...rest } = request
    const input = JSON.stringify({ url, method, timeout, ...rest })
    const answer = await exec(this.namespace, this.pod, 'client', ['node', '-e', REQUEST], { input })
    return JSON.parse(answer) as PodResponse
  }
}

function clientPod(name: string, node: string | undefined): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      ...(node === undefined ? {} : { nodeName: node }),
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 10001, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'client',
          image: e2e.image,
          imagePullPolicy: 'IfNotPresent',
          command: ['node', '-e', 'setInterval(() => {}, 2 ** 30)'],
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
        },
      ],
    },
  }
}
