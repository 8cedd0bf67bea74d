// Signs and sends every message of our modules with CosmJS, as a wallet does:
// once in direct mode, once as amino JSON (what hardware wallets sign). The
// types come from the same .proto files as everything else; what amino needs
// to know beyond them are the (amino.*) options that stand there too.
//
// Reads its task as JSON from standard input, prints one line of JSON for each
// transaction, and ends with 1 when any was refused.
import { readFileSync } from "node:fs";
import path from "node:path";
import { Secp256k1HdWallet } from "@cosmjs/amino";
import { DirectSecp256k1HdWallet, Registry } from "@cosmjs/proto-signing";
import { AminoTypes, SigningStargateClient, defaultRegistryTypes, createDefaultAminoConverters } from "@cosmjs/stargate";
import protobuf from "protobufjs";

const task = JSON.parse(readFileSync(0, "utf8"));

const root = new protobuf.Root();
const ours = (file) => file.startsWith("fallow/");
root.resolvePath = (_, target) => (ours(target) ? path.join(task.proto, target) : null);
await root.load(["fallow/lease/v1/tx.proto", "fallow/provider/v1/tx.proto"], { keepCase: true });
root.resolveAll();

const names = {
  "fallow.lease.v1": ["Deposit", "Withdraw", "SetClientKey", "OpenLeases", "Raise", "Release", "Start", "Redeem", "Close"],
  "fallow.provider.v1": ["Register", "Update", "Bond", "Pause", "Unbond"],
};
const types = Object.entries(names).flatMap(([pkg, all]) => all.map((n) => root.lookupType(`${pkg}.Msg${n}`)));
const url = (type) => type.fullName.replace(/^\./, "/");

const isLong = (type) => ["uint64", "int64"].includes(type);
const bytes = {
  toAmino: (v) => Buffer.from(v).toString("base64"),
  fromAmino: (v) => Uint8Array.from(Buffer.from(v, "base64")),
};

// toAmino writes a field's value as the ledger's amino JSON does.
function valueToAmino(field, v) {
  if (field.resolvedType instanceof protobuf.Type) return toAmino(field.resolvedType, v);
  if (field.type === "bytes") return bytes.toAmino(v);
  return isLong(field.type) ? String(v) : v;
}

function isEmpty(field, v) {
  if (field.repeated || field.type === "bytes" || field.type === "string") return (v ?? "").length === 0;
  return !v || Number(v) === 0;
}

function toAmino(type, message) {
  const out = {};
  for (const field of type.fieldsArray) {
    const v = message[field.name];
    const keep = field.options?.["(amino.dont_omitempty)"] === true;
    if (field.repeated) {
      // The ledger writes an empty list that it may not leave out as null.
      if (!isEmpty(field, v)) out[field.name] = v.map((x) => valueToAmino(field, x));
      else if (keep) out[field.name] = null;
    } else if (field.resolvedType instanceof protobuf.Type) {
      if (keep || v) out[field.name] = toAmino(field.resolvedType, v ?? {});
    } else if (keep || !isEmpty(field, v)) {
      out[field.name] = valueToAmino(field, v);
    }
  }
  return out;
}

function valueFromAmino(field, v) {
  if (field.resolvedType instanceof protobuf.Type) return fromAmino(field.resolvedType, v);
  if (field.type === "bytes") return bytes.fromAmino(v);
  return isLong(field.type) ? Number(v) : v;
}

function fromAmino(type, json) {
  const out = {};
  for (const field of type.fieldsArray) {
    const v = json[field.name];
    if (v === undefined || v === null) continue;
    out[field.name] = field.repeated ? v.map((x) => valueFromAmino(field, x)) : valueFromAmino(field, v);
  }
  return out;
}

const registry = new Registry([...defaultRegistryTypes, ...types.map((t) => [url(t), t])]);
const aminoTypes = new AminoTypes({
  ...createDefaultAminoConverters(),
  ...Object.fromEntries(
    types.map((t) => [url(t), { aminoType: t.options["(amino.name)"], toAmino: (v) => toAmino(t, v), fromAmino: (v) => fromAmino(t, v) }]),
  ),
});

async function open(mode, mnemonic) {
  const wallet = await (mode === "amino" ? Secp256k1HdWallet : DirectSecp256k1HdWallet).fromMnemonic(mnemonic, { prefix: "fal" });
  const [{ address }] = await wallet.getAccounts();
  const client = await SigningStargateClient.connectWithSigner(task.rpc, wallet, { registry, aminoTypes, broadcastPollIntervalMs: 50 });
  return { address, client };
}

const raw = (s) => ({ message: bytes.fromAmino(s.message), signature: bytes.fromAmino(s.signature) });
let failed = 0;
const used = new Set();

async function send(mode, who, typeUrl, value) {
  const fee = { amount: [{ denom: "ufal", amount: "1000" }], gas: "1000000" };
  const line = { mode, type: typeUrl };
  try {
    const r = await who.client.signAndBroadcast(who.address, [{ typeUrl, value }], fee, mode);
    Object.assign(line, { code: r.code, height: r.height, gas: Number(r.gasUsed) });
    if (r.code !== 0) line.log = r.rawLog;
    line.ok = r.code === 0;
  } catch (e) {
    Object.assign(line, { ok: false, log: String(e) });
  }
  if (!line.ok) failed++;
  used.add(typeUrl);
  console.log(JSON.stringify(line));
}

for (const party of task.parties) {
  const { mode } = party;
  const tenant = await open(mode, party.tenant);
  const owner = await open(mode, party.owner);
  const lease = (n, v) => send(mode, tenant, `/fallow.lease.v1.Msg${n}`, v);
  const provider = (n, v) => send(mode, owner, `/fallow.provider.v1.Msg${n}`, v);
  const key = bytes.fromAmino(party.node);
  const listing = {
    owner: owner.address, nodes: [{ key, addrs: ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"] }],
    attributes: [{ key: "tier", value: "home" }, { key: "empty", value: "" }], region: "here & <there>", hubs: ["/ip4/127.0.0.1/tcp/3"],
  };
  await send(mode, tenant, "/cosmos.bank.v1beta1.MsgSend", { fromAddress: tenant.address, toAddress: owner.address, amount: [{ denom: "ufal", amount: "7" }] });
  await provider("Register", { ...listing, bond: 300_000_000 });
  await provider("Bond", { owner: owner.address, amount: 100_000_000 });
  await provider("Pause", { owner: owner.address, paused: true });
  await provider("Pause", { owner: owner.address });
  await lease("Deposit", { sender: tenant.address, amount: 50_000_000 });
  await lease("Deposit", { sender: tenant.address, tenant: owner.address, amount: 1_000_000 });
  await lease("SetClientKey", { tenant: tenant.address, address: owner.address, limit: 1_000_000, expires_height: 100_000 });
  await lease("OpenLeases", {
    signer: tenant.address, tenant: tenant.address,
    entries: [
      { offer: raw(party.offer), session_key: bytes.fromAmino(party.session), reserve: 500_000 },
      { offer: {}, session_key: bytes.fromAmino(party.session) }, // skipped with a reason
    ],
  });
  await lease("Raise", { signer: tenant.address, lease: party.lease, reserve: 600_000 });
  await send(mode, owner, "/fallow.lease.v1.MsgRedeem", { signer: owner.address, vouchers: [raw(party.voucher)], services: [party.lease] });
  await lease("Release", { signer: tenant.address, releases: [raw(party.release)] });
  await lease("Start", { signer: tenant.address, horizons: [raw(party.voucher)] });
  await lease("Close", { signer: tenant.address, leases: [party.lease, 999], reason: "completed" });
  await lease("Withdraw", { tenant: tenant.address, amount: 1000 });
  await lease("Withdraw", { tenant: tenant.address });
  await provider("Update", { ...listing, nodes: [{ key, addrs: [], rotate: true }], attributes: [], hubs: [], region: "" });
  await provider("Unbond", { owner: owner.address });
  tenant.client.disconnect();
  owner.client.disconnect();
}

for (const t of types) {
  if (!used.has(url(t))) {
    console.log(JSON.stringify({ type: url(t), ok: false, log: "was not sent" }));
    failed++;
  }
}
process.exit(failed ? 1 : 0);
