import { FakeKernel } from '../support/fake-kernel.ts'
import { kernelContract } from './kernel.contract.ts'

describe('FakeKernel keeps the contract', () => {
  kernelContract(() => Promise.resolve(new FakeKernel()))
})
