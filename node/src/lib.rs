//! A BitHealth node: joins the cores and the shells, runs one driver per core, and gives people the command line.

pub mod chain;
pub mod cli;
pub mod client;
pub mod config;
pub mod consolidate;
pub mod demo;
pub mod export;
pub mod fetch;
pub mod gather;
pub mod hold;
pub mod home;
pub mod import;
pub mod keys;
pub mod links;
pub mod node;
pub mod open;
pub mod peers;
pub mod replicate;
pub mod restore;
pub mod run;
pub mod service;
pub mod setup;
pub mod sheet;
pub mod shelf;
pub mod vault;
pub mod verify;
