/** What is installed, and what an image is made of, is what has been looked at once: by sums, not by names. */
import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import packageJson from '../../package.json' with { type: 'json' }

interface Locked {
  readonly integrity?: string
  readonly resolved?: string
}

describe('package-lock.json', () => {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    packages: Record<string, Locked>
  }
  const locked = Object.entries(packages).filter(([place]) => place !== '')

  it('has a sum for every package, which npm ci asks for, and no address of a registry', () => {
    expect(locked.filter(([, { integrity }]) => !integrity?.startsWith('sha512-'))).to.deep.equal([])
    expect(locked.filter(([, { resolved }]) => resolved !== undefined)).to.deep.equal([])
  })
})

describe('scripts/image/packages.lock', () => {
  const lines = readFileSync('scripts/image/packages.lock', 'utf8').trim().split('\n').slice(1)

  it('has a sum for every file', () => {
    const line =
      /^(amd64|arm64|build) ([0-9a-f]{64} debian(-security)?\/pool\/\S+\.deb|sha512-\S+== node-linux-\S+)$/
    expect(lines.filter((one) => !line.test(one))).to.deep.equal([])
  })

  it('has the same packages for both architectures, and the Node of package.json', () => {
    const packagesOf = (architecture: string): string[] =>
      lines
        .filter((line) => line.startsWith(`${architecture} `))
        .map((line) => line.split(' ')[2]!.replace(/_(amd64|arm64)\.deb$|-linux-(x64|arm64)/, ''))
    expect(packagesOf('amd64')).to.deep.equal(packagesOf('arm64'))
    expect(packagesOf('amd64').at(-1)).to.equal(`node@${packageJson.devDependencies.node}`)
  })
})
