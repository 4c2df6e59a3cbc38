// Makes a replica set of new mongods and creates the administrator and the user of the backups.
//
// Run by mongosh on the machine of the mongod: as long as there is no user, and from localhost only, MongoDB allows it
// without a password ("localhost exception"). Run again it finds both done and changes nothing.
//
//   MEMBERS           addresses by which everybody reaches the members: host:port[,host:port...]
//   REPLICA_SET       name of the set                       (default: gapfactory)
//   ADMIN_PASSWORD    file with the administrator's password
//   BACKUP_PASSWORD   file with the password of the user of the backups
const fs = require("fs");

const ALREADY_INITIALISED = 23;
const UNAUTHORISED = 13;

function secret(name) {
  const text = fs.readFileSync(process.env[name], "utf8").trim();
  if (text.length < 20) {
    throw new Error(`${name}: the password has fewer than 20 characters`);
  }
  return text;
}

// an error is a document or an exception, depending on the version of mongosh
function attempt(command, harmless) {
  let answer;
  try {
    answer = db.getSiblingDB("admin").runCommand(command);
  } catch (error) {
    answer = { ok: 0, code: error.code, errmsg: error.message };
  }
  if (answer.ok !== 1 && !harmless.includes(answer.code)) {
    throw new Error(`${Object.keys(command)[0]}: ${answer.errmsg} (code ${answer.code})`);
  }
  return answer.ok === 1;
}

const set = process.env.REPLICA_SET || "gapfactory";
const made = attempt(
  { replSetInitiate: { _id: set, members: process.env.MEMBERS.split(",").map((host, _id) => ({ _id, host })) } },
  [ALREADY_INITIALISED, UNAUTHORISED],
);
print(made ? `replica set ${set} initiated` : `replica set ${set} was there`);

const end = Date.now() + 120000;
while (!db.hello().isWritablePrimary) {
  if (!db.hello().secondary && Date.now() > end) {
    throw new Error("no primary after two minutes; look at the log of mongod");
  }
  if (db.hello().secondary && Date.now() > end) {
    print("this member is a secondary: users are made on the primary");
    quit(0);
  }
  sleep(500);
}

// the first user closes the localhost exception, so the second one is made as the first
const administrator = secret("ADMIN_PASSWORD");
const first = attempt(
  { createUser: "admin", pwd: administrator, roles: ["root"], mechanisms: ["SCRAM-SHA-256"] },
  [UNAUTHORISED, 51003],
);
db.getSiblingDB("admin").auth("admin", administrator);
const second = attempt(
  {
    createUser: "backup",
    pwd: secret("BACKUP_PASSWORD"),
    roles: ["backup"],
    mechanisms: ["SCRAM-SHA-256"],
  },
  [51003],
);
print(`user admin ${first ? "made" : "was there"}, user backup ${second ? "made" : "was there"}`);
