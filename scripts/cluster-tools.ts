import { run } from './run.ts'

export const CLUSTER = 'test/cluster/cluster'

/** The variables that lead kubectl and helm to the test cluster, and to its own builds of them; undefined when it is not built. */
export async function clusterEnvironment(): Promise<{ KUBECONFIG: string; PATH: string } | undefined> {
  // the script prints lines for a shell, so a shell reads them
  const script = `exports=$(${CLUSTER} env 2>/dev/null) && eval "$exports" && printf '%s\\n%s' "$KUBECONFIG" "$PATH"`
  const { code, stdout } = await run('bash', ['-c', script], { capture: true })
  const [kubeconfig, path] = stdout.split('\n')
  return code === 0 && kubeconfig && path ? { KUBECONFIG: kubeconfig, PATH: path } : undefined
}

/** True when a cluster of the kit runs and answers. */
export async function clusterRuns(): Promise<boolean> {
  const env = await clusterEnvironment()
  if (!env) return false
  const { code } = await run('kubectl', ['get', '--raw', '/readyz', '--request-timeout=5s'], {
    env: { ...process.env, ...env },
    quiet: true,
  })
  return code === 0
}
