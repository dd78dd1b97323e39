/** What scripts/e2e.ts tells the tests about the cluster they run on. */
export interface E2eEnvironment {
  /** The image of the operator and of the databases; every node has it. Has `node` in it, so it serves as a client as well. */
  readonly image: string
  /** Namespace of the operator. */
  readonly operatorNamespace: string
  /** Path of the test cluster's own command, for faults; undefined on somebody's existing cluster. */
  readonly cluster: string | undefined
  /** The API server's audit log of that cluster. */
  readonly auditLog: string | undefined
}

const need = (name: string): string => {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set: the e2e tests are started by \`npm run test:e2e\``)
  return value
}

export const e2e: E2eEnvironment = {
  image: need('KVIDX_E2E_IMAGE'),
  operatorNamespace: need('KVIDX_E2E_OPERATOR_NAMESPACE'),
  cluster: process.env.KVIDX_E2E_CLUSTER || undefined,
  auditLog: process.env.KVIDX_E2E_AUDIT_LOG || undefined,
}
